package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/vfs"
)

// TestFailedCreateLeavesNothing fails every kind of step and looks for what
// is left, at once or after a restart.
func TestFailedCreateLeavesNothing(t *testing.T) {
	for _, fail := range []struct {
		op      vfs.Op
		name    string
		restart bool // only a restart knows whether the topic is there
	}{
		{vfs.OpMkdir, "topics/t-1", false},
		{vfs.OpCreate, "topics/t-1/*", false},
		{vfs.OpSyncDir, "topics/t-1", false},
		{vfs.OpSync, "meta/journal-*", true},
	} {
		fsys := vfs.NewCrashable(1)
		c := open(t, fsys)
		fsys.SetHook(vfs.FailNth(fail.op, fail.name, 1, syscall.EIO, false))
		if _, err := c.Create("t", 3, nil); err == nil {
			t.Errorf("%s of %s fails and nobody notices", fail.op, fail.name)
		}
		fsys.SetHook(nil)
		if fail.restart {
			c = open(t, fsys.Crash())
			if got := c.Get("t"); got != nil && got.Partitions[2].Err != nil {
				t.Errorf("after a failed sync of the state: %v", got.Partitions[2].Err)
			}
			continue
		}
		entries, err := fsys.ReadDir("topics")
		if err != nil || len(entries) > 0 {
			t.Errorf("%s of %s failed: %d folders are left (%v)", fail.op, fail.name, len(entries), err)
		}
		if _, err := c.Create("t", 3, nil); err != nil {
			t.Errorf("%s of %s failed once: then %v", fail.op, fail.name, err)
		}
	}
}

// TestSweep: a power cut in a creation leaves folders that the next start
// removes, and never those that hold something.
func TestSweep(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c := open(t, fsys)
	_, err := c.Create("kept", 1, nil)
	must(t, err)
	must(t, fsys.MkdirAll("topics/half-0"))
	must(t, fsys.MkdirAll("topics/half-1"))
	_, err = fsys.Create("topics/half-1/00000000000000000000.log")
	must(t, err)
	must(t, fsys.MkdirAll("topics/full-0"))
	f, err := fsys.Create("topics/full-0/00000000000000000007.log")
	must(t, err)
	_, err = f.WriteAt([]byte("records"), 0)
	must(t, err)
	must(t, c.Close())
	c = open(t, fsys)
	if got := fmt.Sprint(c.Strays()); got != "[topics/full-0]" {
		t.Errorf("strays %s, want topics/full-0", got)
	}
	entries, err := fsys.ReadDir("topics")
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != "[full-0 kept-0]" {
		t.Errorf("folders %v, want full-0 and kept-0", got)
	}
}

func TestCreateAllAndDeleteAll(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c := open(t, fsys)
	made := c.CreateAll([]catalog.New{
		{Name: "a", Partitions: 2}, {Name: "b", Partitions: 0}, {Name: "a", Partitions: 1}, {Name: "c", Partitions: 10000},
		{Name: "d", Partitions: 9999},
	})
	for i, want := range []error{nil, catalog.ErrPartitions, catalog.ErrExists, nil, catalog.ErrPartitions} {
		if !errors.Is(made[i].Err, want) {
			t.Errorf("topic %d: got %v, want %v", i, made[i].Err, want)
		}
	}
	errs := c.DeleteAll([]string{"a", "c", "a", "z"})
	for i, want := range []error{nil, nil, catalog.ErrUnknown, catalog.ErrUnknown} {
		if !errors.Is(errs[i], want) {
			t.Errorf("delete %d: got %v, want %v", i, errs[i], want)
		}
	}
	if _, err := c.Create("d", 9999, nil); err != nil { // there is room again
		t.Error(err)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "a.b_c-D9": true, "": false, ".": false, "..": false, "a b": false, "a/b": false, strings.Repeat("x", 249): true, strings.Repeat("x", 250): false} {
		if err := catalog.CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q): %v", name, err)
		}
	}
}
