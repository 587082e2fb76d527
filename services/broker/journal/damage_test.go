package journal_test

import (
	"errors"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/journal"
	"github.com/waysideos/wayside/services/vfs"
)

// filled returns a file system with a journal of some generations, and the
// state that it holds.
func filled(t *testing.T) (*vfs.Crashable, map[uint32]uint32) {
	t.Helper()
	fsys := vfs.NewCrashable(1)
	m := newCounter()
	j := open(t, fsys, m, 1500)
	m.pad = 40
	for i := range uint32(200) {
		if err := j.Append(m.change(i%20, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys, m.last
}

func open(t *testing.T, fsys vfs.FS, m *counter, compactAt int64) *journal.Journal {
	t.Helper()
	j, err := journal.Open(fsys, "meta", m, compactAt)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func files(t *testing.T, fsys vfs.FS, kind string) []string {
	t.Helper()
	entries, err := fsys.ReadDir("meta")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), kind) {
			out = append(out, "meta/"+e.Name())
		}
	}
	return out
}

func flip(t *testing.T, fsys vfs.FS, name string, at int) {
	t.Helper()
	b, err := frame.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	if err := frame.WriteFile(fsys, name, b); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedSnapshot flips every byte of the newest snapshot, one at a time,
// and takes it away: nothing of the state is lost.
func TestDamagedSnapshot(t *testing.T) {
	fsys, want := filled(t)
	snaps := files(t, fsys, "snapshot")
	if len(snaps) != 2 {
		t.Fatalf("snapshots %v, want the newest and the one before", snaps)
	}
	b, err := frame.ReadFile(fsys, snaps[1])
	if err != nil {
		t.Fatal(err)
	}
	for at := -1; at < len(b); at++ {
		if at == 8 {
			continue // the version: a later release, which is not guessed about
		}
		fsys := fsys.CrashClone()
		if at < 0 {
			fsys.Remove(snaps[1])
		} else {
			flip(t, fsys, snaps[1], at)
		}
		for start := range 3 {
			m := newCounter()
			j := open(t, fsys, m, 0)
			if !maps.Equal(m.last, want) {
				t.Fatalf("byte %d, start %d: state is %v, want %v", at, start, m.last, want)
			}
			if told := len(j.Repairs()) > 0; told != (start == 0 && at < 9 || start == 0 && at >= 16) {
				t.Fatalf("byte %d, start %d: told of %v", at, start, j.Repairs())
			}
			j.Close()
			fsys = fsys.Crash()
		}
	}
}

// TestDamagedJournal flips every byte of the journal in force: one change is
// lost at most, it is told of, a copy is kept, and the journal goes on.
func TestDamagedJournal(t *testing.T) {
	fsys, _ := filled(t)
	journals := files(t, fsys, "journal")
	name := journals[len(journals)-1]
	b, err := frame.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	const size = frame.Overhead + 8 + 40
	frames := (len(b) - frame.HeaderSize) / size
	if frames < 5 {
		t.Fatalf("%d changes in the journal: too few to show anything", frames)
	}
	for at := range b {
		if at == 8 {
			continue
		}
		fsys := fsys.CrashClone()
		flip(t, fsys, name, at)
		m := newCounter()
		j := open(t, fsys, m, 0)
		hit := (at - frame.HeaderSize) / size
		if at < frame.HeaderSize {
			hit = -1
		}
		for k, v := range replayed(t, b, hit) {
			if m.last[k] != v {
				t.Fatalf("byte %d in change %d of %d: key %d is %d, want %d", at, hit, frames, k, m.last[k], v)
			}
		}
		if lastOne := hit == frames-1; !lastOne && (at < 8 || at >= 16) {
			if copies := files(t, fsys, "journal"); len(j.Repairs()) == 0 || !strings.Contains(strings.Join(copies, " "), name+".damaged") {
				t.Errorf("byte %d: told of %q, files %v", at, j.Repairs(), copies)
			}
		}
		if err := j.Append(m.change(999, 1)); err != nil {
			t.Fatal(err)
		}
		j.Close()
		again := newCounter()
		j = open(t, fsys.Crash(), again, 0)
		if !maps.Equal(again.last, m.last) {
			t.Fatalf("byte %d: next start has another state", at)
		}
		j.Close()
	}
}

// replayed is the state that a journal's frames make, but for one.
func replayed(t *testing.T, b []byte, without int) map[uint32]uint32 {
	t.Helper()
	m := newCounter()
	b = b[frame.HeaderSize:]
	for i := 0; len(b) > 0; i++ {
		p, rest, err := frame.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if i != without {
			m.Apply(p)
		}
		b = rest
	}
	return m.last
}

// TestRestartAfterFailedSync: what a failed sync has lost is still in the
// page cache. The next start must not serve it.
func TestRestartAfterFailedSync(t *testing.T) {
	lost := 0
	for seed := range uint64(40) {
		fsys := vfs.NewCrashable(seed)
		m := newCounter()
		j := open(t, fsys, m, 0)
		m.pad = 1500
		if err := j.Append(m.change(1, 1)); err != nil {
			t.Fatal(err)
		}
		fsys.SetHook(vfs.FailNth(vfs.OpSync, "meta/*", 1, syscall.EIO, false))
		if err := j.Append(m.change(1, 2)); !errors.Is(err, journal.ErrBroken) {
			t.Fatal(err)
		}
		j.Close()
		fsys.SetHook(nil)
		served := newCounter()
		j = open(t, fsys, served, 0)
		lost += int(2 - served.last[1])
		j.Close()
		again := newCounter()
		j = open(t, fsys.Crash(), again, 0)
		if !maps.Equal(served.last, again.last) {
			t.Fatalf("seed %d: served %v, after a power cut %v", seed, served.last, again.last)
		}
		j.Close()
	}
	if lost == 0 {
		t.Error("no seed lost what a failed sync had not written: the test shows nothing")
	}
}

// TestSnapshotIsProved: a snapshot that the disk does not give back is not put
// in force, and the journal goes on.
func TestSnapshotIsProved(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	m := newCounter()
	j := open(t, fsys, m, 1000)
	m.pad = 100
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpRead && strings.HasSuffix(name, ".tmp") {
			return syscall.EIO
		}
		return nil
	})
	for i := range uint32(50) {
		if err := j.Append(m.change(i, i)); err != nil {
			t.Fatal(err)
		}
	}
	if s := files(t, fsys, "snapshot-0000000001"); len(s) > 1 || (len(s) == 1 && !strings.HasSuffix(s[0], ".tmp")) {
		t.Errorf("snapshots %v, want none", s)
	}
	j.Close()
	fsys.SetHook(nil)
	again := newCounter()
	j = open(t, fsys.Crash(), again, 0)
	if !maps.Equal(again.last, m.last) {
		t.Errorf("state %v, want %v", again.last, m.last)
	}
	j.Close()
}
