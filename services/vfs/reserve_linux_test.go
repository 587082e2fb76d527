package vfs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReserve: room that is kept takes blocks and leaves the size, and what was
// not written of it can be given back.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	f, err := OS(dir).Create("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	check := func(size, least, most int64) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		blocks := info.Sys().(*syscall.Stat_t).Blocks * 512
		if info.Size() != size || blocks < least || blocks > most {
			t.Errorf("%d bytes in %d bytes of blocks, want %d in %d to %d", info.Size(), blocks, size, least, most)
		}
	}
	r := f.(Reserver)
	if err := r.Reserve(0, 1<<20); err != nil {
		t.Fatal(err)
	}
	check(0, 1<<20, 2<<20)
	if _, err := f.WriteAt(make([]byte, 5000), 0); err != nil {
		t.Fatal(err)
	}
	check(5000, 1<<20, 2<<20)
	if err := r.Unreserve(); err != nil {
		t.Fatal(err)
	}
	check(5000, 5000, 1<<19)
}
