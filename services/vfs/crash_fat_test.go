package vfs_test

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/vfs"
)

// What a crash may leave of a renamed file on FAT: either name, both or none.
func TestCrashOnFATLeavesTwins(t *testing.T) {
	left := map[[2]bool]int{}
	for seed := range uint64(seeds) {
		c := renamed(t, seed).Crash()
		_, errA := c.Open("a")
		_, errB := c.Open("b")
		left[[2]bool{errA == nil, errB == nil}]++
	}
	if len(left) != 4 {
		t.Errorf("got %v, want each combination of the two names", left)
	}
}

// renamed is a disk with a file that was synced as "a" and is "b" now.
func renamed(t *testing.T, seed uint64) *vfs.Crashable {
	t.Helper()
	c := vfs.NewCrashableFAT(seed)
	f := create(t, c, "a")
	write(t, f, "content", 0)
	must(t, errors.Join(f.Sync(), c.SyncDir("."), c.Rename("a", "b")))
	return c
}

// twins are a file under two names.
func twins(t *testing.T) *vfs.Crashable {
	t.Helper()
	for seed := range uint64(seeds) {
		c := renamed(t, seed).Crash()
		_, errA := c.Open("a")
		_, errB := c.Open("b")
		if errA == nil && errB == nil {
			return c
		}
	}
	t.Fatal("no seed leaves twins")
	return nil
}

// What takes a name from one twin takes the content from the other.
func TestTwinsOnFATShareBlocks(t *testing.T) {
	for name, take := range map[string]func(c *vfs.Crashable) error{
		"removed":  func(c *vfs.Crashable) error { return c.Remove("a") },
		"replaced": func(c *vfs.Crashable) error { return c.Rename("a", "b") },
	} {
		c := twins(t)
		must(t, errors.Join(take(c), c.SyncDir(".")))
		_, before := c.Open("b")
		_, after := c.Crash().Open("b")
		if !errors.Is(before, syscall.EIO) || !errors.Is(after, syscall.EIO) {
			t.Errorf("%s: open the other: got %v, after a crash %v; want EIO", name, before, after)
		}
	}
	c := twins(t)
	must(t, c.Remove("a"))
	if err := c.Remove("b"); !errors.Is(err, syscall.EIO) {
		t.Errorf("remove the other: got %v, want EIO", err)
	}
	c = twins(t)
	must(t, errors.Join(c.Rename("a", "c"), c.SyncDir(".")))
	if got := read(t, c, "b"); got != "content" {
		t.Errorf("got %q of the other, want its content: a rename frees nothing", got)
	}
}

// A removal that the crash takes back has freed nothing.
func TestCrashOnFATGivesBlocksBack(t *testing.T) {
	there := 0
	for seed := range uint64(seeds) {
		c := vfs.NewCrashableFAT(seed)
		f := create(t, c, "a")
		write(t, f, "content", 0)
		must(t, errors.Join(f.Sync(), c.SyncDir("."), c.Remove("a")))
		c = c.Crash()
		if _, err := c.Open("a"); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		there++
		if got := read(t, c, "a"); got != "content" {
			t.Fatalf("got %q, want the content", got)
		}
	}
	if there == 0 || there == seeds {
		t.Errorf("the file is there after %d of %d crashes, want some", there, seeds)
	}
}
