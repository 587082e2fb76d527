package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// counting counts the files that are open.
type counting struct {
	vfs.FS
	files *atomic.Int32
}

type counted struct {
	vfs.File
	files *atomic.Int32
}

func (c counting) Open(name string) (vfs.File, error)   { return c.count(c.FS.Open(name)) }
func (c counting) Create(name string) (vfs.File, error) { return c.count(c.FS.Create(name)) }

func (c counting) count(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	c.files.Add(1)
	return counted{f, c.files}, nil
}

func (f counted) Close() error {
	f.files.Add(-1)
	return f.File.Close()
}

// TestOneFileEach: a log that is not being written to holds one file open,
// because there may be as many thousand as a process may open.
func TestOneFileEach(t *testing.T) {
	var files atomic.Int32
	l := open(t, counting{vfs.NewCrashable(1), &files}, store.Options{})
	putDurable(t, l, spec{values: numbered("v", 0, 3)})
	for deadline := time.Now().Add(20 * time.Second); files.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, want one", files.Load())
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := files.Load(); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
}
