package vfs_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/waysideos/wayside/services/vfs"
)

// TestWriteWhole cuts the power before every operation: there is the old
// content or the new, and the new once it returned.
func TestWriteWhole(t *testing.T) {
	for seed := range uint64(seeds) {
		for cut := 1; ; cut++ {
			c := vfs.NewCrashable(seed)
			must(t, vfs.WriteWhole(c, "d/e/f", []byte("old")))
			n := 0
			c.SetHook(func(vfs.Op, string) error {
				if n++; n == cut {
					return vfs.ErrCrashed
				}
				return nil
			})
			err := vfs.WriteWhole(c, "d/e/f", []byte("new!"))
			after := c.Crash()
			got := read(t, after, "d/e/f")
			if got != "new!" && (got != "old" || err == nil) {
				t.Fatalf("seed %d, cut at %d: got %q after error %v", seed, cut, got, err)
			}
			if err == nil {
				break
			}
		}
	}
	c := vfs.NewCrashable(1)
	c.SetHook(vfs.FailNth(vfs.OpMkdir, "*", 1, fs.ErrPermission, true))
	if err := vfs.WriteWhole(c, "d/f", nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want what the file system says", err)
	}
}

// TestReadWhole reads a file of the bound and refuses one of a byte more.
func TestReadWhole(t *testing.T) {
	c := vfs.NewCrashable(1)
	for _, text := range []string{"", "abc"} {
		must(t, vfs.WriteWhole(c, "d/f", []byte(text)))
		if got, err := vfs.ReadWhole(c, "d/f", int64(len(text))); err != nil || string(got) != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	}
	if got, err := vfs.ReadWhole(c, "d/f", 2); err == nil {
		t.Errorf("3 bytes with a bound of 2: got %q", got)
	}
	if _, err := vfs.ReadWhole(c, "d/g", 2); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: got %v", err)
	}
}
