package journal_test

import (
	"bytes"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/journal"
	"github.com/waysideos/wayside/services/vfs"
)

// TestLost damages files beyond what second copies can mend: the journal opens,
// says what is lost, keeps the damaged files, and is well from then on.
func TestLost(t *testing.T) {
	garbage := func(t *testing.T, fsys vfs.FS, name string) {
		t.Helper()
		if err := frame.WriteFile(fsys, name, bytes.Repeat([]byte("garbage"), 100)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		do   func(t *testing.T, fsys vfs.FS, snaps, journals []string)
		kept int // at least so many of 20 keys
	}{
		"journal": {func(t *testing.T, fsys vfs.FS, _, journals []string) { garbage(t, fsys, journals[1]) }, 20},
		"both snapshots in one place": {func(t *testing.T, fsys vfs.FS, snaps, _ []string) {
			for _, s := range snaps {
				flip(t, fsys, s, 20)
			}
		}, 20},
		"both snapshots": {func(t *testing.T, fsys vfs.FS, snaps, _ []string) {
			for _, s := range snaps {
				garbage(t, fsys, s)
			}
		}, 1},
		"snapshots gone": {func(t *testing.T, fsys vfs.FS, snaps, _ []string) {
			for _, s := range snaps {
				if err := fsys.Remove(s); err != nil {
					t.Fatal(err)
				}
			}
		}, 1},
		"a snapshot gone and its journal": {func(t *testing.T, fsys vfs.FS, snaps, journals []string) {
			if err := fsys.Remove(snaps[1]); err != nil {
				t.Fatal(err)
			}
			garbage(t, fsys, journals[1])
		}, 20},
		"a snapshot and the middle of the journal before it": {func(t *testing.T, fsys vfs.FS, snaps, journals []string) {
			flip(t, fsys, snaps[1], 20)
			flip(t, fsys, journals[0], 20)
		}, 20},
		"a snapshot and the end of the journal before it": {func(t *testing.T, fsys vfs.FS, snaps, journals []string) {
			flip(t, fsys, snaps[1], 20)
			b, err := frame.ReadFile(fsys, journals[0])
			if err != nil {
				t.Fatal(err)
			}
			flip(t, fsys, journals[0], len(b)-1)
		}, 20},
		"everything": {func(t *testing.T, fsys vfs.FS, snaps, journals []string) {
			for _, s := range append(snaps, journals...) {
				garbage(t, fsys, s)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, _ := filled(t)
			tt.do(t, fsys, files(t, fsys, "snapshot"), files(t, fsys, "journal"))
			m := newCounter()
			j := open(t, fsys, m, 0)
			if m.lost == "" || len(j.Lost()) == 0 {
				t.Errorf("the machine was told %q, Lost is %q", m.lost, j.Lost())
			}
			if len(m.last) < tt.kept {
				t.Errorf("%d keys are left, want %d", len(m.last), tt.kept)
			}
			if all := strings.Join(append(files(t, fsys, "snapshot"), files(t, fsys, "journal")...), " "); name != "snapshots gone" && !strings.Contains(all, ".damaged") {
				t.Errorf("nothing damaged is kept: %s", all)
			}
			if err := j.Append(m.change(999, 1)); err != nil {
				t.Fatal(err)
			}
			j.Close()
			again := newCounter()
			j = open(t, fsys.Crash(), again, 0)
			if !maps.Equal(again.last, m.last) || again.lost != "" {
				t.Errorf("the next start has %v and lost %q, want %v", again.last, again.lost, m.last)
			}
			j.Close()
		})
	}
}

// TestLostUnderPowerCuts: a start that is cut off while it writes the state
// anew leaves the damage, or the state, but never a state that knows nothing
// of the damage.
func TestLostUnderPowerCuts(t *testing.T) {
	cuts := 0
	for n := 1; n < 60; n++ {
		fsys, _ := filled(t)
		snaps := files(t, fsys, "snapshot")
		newest := snaps[len(snaps)-1]
		for _, s := range snaps {
			flip(t, fsys, s, 20)
		}
		for _, op := range []vfs.Op{vfs.OpSync, vfs.OpRename, vfs.OpSyncDir, vfs.OpWrite} {
			cut := fsys.CrashClone()
			failed := false
			fail := vfs.FailNth(op, "meta*", n, syscall.EIO, true)
			cut.SetHook(func(op vfs.Op, name string) error {
				err := fail(op, name)
				failed = failed || err != nil
				return err
			})
			m := newCounter()
			if j, err := journal.Open(cut, "meta", m, 0); err == nil {
				j.Close()
			}
			if !failed {
				continue
			}
			cuts++
			after := cut.Crash()
			again := newCounter()
			j := open(t, after, again, 0)
			if snaps := files(t, after, "snapshot"); again.lost == "" && snaps[len(snaps)-1] <= newest+".damaged" {
				t.Fatalf("%v %d: the loss is not told of, and nothing was written anew: %v", op, n, snaps)
			}
			if len(again.last) < 20 {
				t.Fatalf("%v %d: %d keys are left of 20", op, n, len(again.last))
			}
			j.Close()
		}
	}
	if cuts == 0 {
		t.Error("no start was cut off: the test shows nothing")
	}
}

// TestUnreadableSectors: what the disk does not give back is damage, and the
// rest is in force.
func TestUnreadableSectors(t *testing.T) {
	fsys, want := filled(t)
	journals := files(t, fsys, "journal")
	first := true
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpRead && name == journals[1] && first { // the whole, but not its parts
			first = false
			return syscall.EIO
		}
		return nil
	})
	m := newCounter()
	j := open(t, fsys, m, 0)
	defer j.Close()
	if !maps.Equal(m.last, want) || len(j.Repairs()) == 0 {
		t.Errorf("state is %v, want %v; told of %q", m.last, want, j.Repairs())
	}
}
