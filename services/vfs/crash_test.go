package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/vfs"
)

const seeds = 300

// TestCrashKeepsSynced writes around a sync and cuts the power: what was
// synced is there for every seed, and what was not is there only for some.
func TestCrashKeepsSynced(t *testing.T) {
	lost, kept, torn := 0, 0, 0
	for seed := range uint64(seeds) {
		c := vfs.NewCrashable(seed)
		f := create(t, c, "f")
		must(t, c.SyncDir("."))
		write(t, f, strings.Repeat("a", 2000), 0)
		must(t, f.Sync())
		write(t, f, strings.Repeat("b", 2000), 2000)
		got := read(t, c.Crash(), "f")
		if len(got) < 2000 || got[:2000] != strings.Repeat("a", 2000) {
			t.Fatalf("seed %d: synced bytes are gone", seed)
		}
		switch tail := got[2000:]; {
		case tail == "":
			lost++
		case tail == strings.Repeat("b", 2000):
			kept++
		default:
			torn++
		}
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, vfs.ErrCrashed) {
			t.Fatalf("write after the crash: got %v, want ErrCrashed", err)
		}
	}
	if lost == 0 || kept == 0 || torn == 0 {
		t.Errorf("over %d seeds: lost %d, kept %d, torn %d; want some of each", seeds, lost, kept, torn)
	}
}

func TestCrashTearsBySector(t *testing.T) {
	for seed := range uint64(seeds) {
		c := vfs.NewCrashable(seed)
		f := create(t, c, "f")
		must(t, c.SyncDir("."))
		write(t, f, strings.Repeat("a", 4096), 0)
		must(t, f.Sync())
		write(t, f, strings.Repeat("b", 4096), 0)
		got := []byte(read(t, c.Crash(), "f"))
		for s := range slices.Chunk(got, 512) {
			if n := bytes.Count(s, []byte("b")); n != 0 && n != 512 {
				t.Fatalf("seed %d: a sector was torn inside", seed)
			}
		}
	}
}

func TestCrashLosesNames(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(seeds) {
		c := vfs.NewCrashable(seed)
		f := create(t, c, "tmp")
		write(t, f, "new", 0)
		must(t, f.Sync())
		old := create(t, c, "x")
		write(t, old, "old", 0)
		must(t, old.Sync())
		must(t, c.SyncDir("."))
		must(t, c.Rename("tmp", "x"))
		after := c.Crash()
		seen[strings.Join(list(t, after, "."), " ")+"="+read(t, after, "x")]++
	}
	if seen["tmp x=old"] == 0 || seen["x=new"] == 0 || len(seen) != 2 {
		t.Errorf("outcomes of an un-synced rename: %v, want both old and new and nothing between", seen)
	}
}

func TestCrashLosesUnsyncedDirs(t *testing.T) {
	missing := 0
	for seed := range uint64(seeds) {
		c := vfs.NewCrashable(seed)
		must(t, c.MkdirAll("d"))
		f := create(t, c, "d/f")
		must(t, f.Sync())
		must(t, c.SyncDir("d")) // the parent was forgotten
		if _, err := c.Crash().Open("d/f"); errors.Is(err, fs.ErrNotExist) {
			missing++
		}
	}
	if missing == 0 {
		t.Error("a directory whose parent was never synced survived every crash")
	}
}

func TestCrashIsDeterministic(t *testing.T) {
	run := func() string {
		c := vfs.NewCrashable(7)
		f := create(t, c, "f")
		must(t, c.SyncDir("."))
		for i := range 20 {
			write(t, f, strings.Repeat(string(rune('a'+i)), 700), int64(i*700))
		}
		return read(t, c.CrashClone(), "f")
	}
	if run() != run() {
		t.Error("two runs of one seed differ")
	}
}

func TestFaults(t *testing.T) {
	c := vfs.NewCrashable(1)
	f := create(t, c, "f")
	c.SetHook(vfs.FailNth(vfs.OpSync, "f", 2, syscall.EIO, false))
	if err := f.Sync(); err != nil {
		t.Errorf("first sync: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("second sync: got %v, want EIO", err)
	}
	c.SetHook(vfs.FailNth(vfs.OpWrite, "f", 1, syscall.EIO, true))
	if n, err := f.WriteAt([]byte("1234"), 0); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Errorf("failed write: got %d, %v, want half of it and EIO", n, err)
	}
	c.SetHook(nil)
	c.SetCapacity(10)
	if n, err := f.WriteAt(make([]byte, 20), 0); n != 10 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full disk: got %d, %v, want 10 and ENOSPC", n, err)
	}
	must(t, f.Truncate(3))
	if free, total, err := c.Space(); free != 7 || total != 10 || err != nil {
		t.Errorf("space: got %d of %d, %v, want 7 of 10", free, total, err)
	}
}

// TestFailedSyncLosesPages: what a failed sync has not written stays readable
// until the cache is dropped, and no later sync brings it back.
func TestFailedSyncLosesPages(t *testing.T) {
	kept, lost := 0, 0
	for seed := range uint64(seeds) {
		c := vfs.NewCrashable(seed)
		f := create(t, c, "f")
		must(t, c.SyncDir("."))
		write(t, f, "synced", 0)
		must(t, f.Sync())
		c.SetHook(vfs.FailNth(vfs.OpSync, "f", 1, syscall.EIO, false))
		write(t, f, strings.Repeat("b", 3000), 6)
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("sync: got %v, want EIO", err)
		}
		must(t, f.Sync())
		if got := read(t, c, "f"); got != "synced"+strings.Repeat("b", 3000) {
			t.Fatalf("seed %d: the page cache has forgotten something by itself", seed)
		}
		must(t, vfs.Distrust(f, 0, false))
		got := read(t, c, "f")
		if !strings.HasPrefix(got, "synced") || len(got) != 3006 {
			t.Fatalf("seed %d: %d bytes, want all of the size and what was synced before", seed, len(got))
		}
		if after := read(t, c.Crash(), "f"); !strings.HasPrefix(got, after) {
			t.Fatalf("seed %d: after a power cut there is what the disk did not hold before", seed)
		}
		if strings.HasSuffix(got, strings.Repeat("b", 3000)) {
			kept++
		} else {
			lost++
		}
	}
	if kept == 0 || lost == 0 {
		t.Errorf("over %d seeds: all kept %d, some lost %d; want some of each", seeds, kept, lost)
	}
}

// TestSettle: bytes that only the size in memory says are there are written.
func TestSettle(t *testing.T) {
	for seed := range uint64(seeds) {
		c := vfs.NewCrashable(seed)
		f := create(t, c, "f")
		must(t, c.SyncDir("."))
		write(t, f, "a", 0)
		c.SetHook(vfs.FailNth(vfs.OpSync, "f", 1, syscall.EIO, false))
		write(t, f, strings.Repeat("\x00", 2000), 1)
		f.Sync()
		must(t, vfs.Distrust(f, 0, false))
		want := read(t, c, "f")
		must(t, vfs.Settle(f, int64(len(want)), true))
		if got := read(t, c.Crash(), "f"); got != want {
			t.Fatalf("seed %d: %d bytes were read, after a power cut there are %d", seed, len(want), len(got))
		}
	}
}

func TestSyncAll(t *testing.T) {
	for seed := range uint64(20) {
		c := vfs.NewCrashable(seed)
		must(t, c.MkdirAll("d/e"))
		write(t, create(t, c, "d/e/f"), "x", 0)
		must(t, c.SyncAll())
		if got := read(t, c.Crash(), "d/e/f"); got != "x" {
			t.Fatalf("seed %d: got %q", seed, got)
		}
	}
}
