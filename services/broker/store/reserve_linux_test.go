package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// disk is a file system that says how full it is.
type disk struct {
	vfs.FS
	free, total int64
}

func (d *disk) Space() (free, total int64, err error) { return d.free, d.total, nil }

// TestReserve: a segment that grows has room kept for some more, which it gives
// back when it is sealed and when the log is closed. A small one has none, and
// none has when the disk is nearly full, or for more than a segment may hold.
func TestReserve(t *testing.T) {
	const unit, slack = 1 << 20, 1 << 16
	root := t.TempDir()
	d := &disk{vfs.OS(root), 1 << 40, 1 << 40}
	l := open(t, d, store.Options{Settings: store.Settings{SegmentBytes: 6 * unit}})
	fill := func(batches int) {
		for range batches {
			putDurable(t, l, spec{values: []string{strings.Repeat("x", unit-100)}})
		}
	}
	check := func(what string, least, most int64) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(root, "p", "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		var spare int64
		for _, name := range files {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			spare += info.Sys().(*syscall.Stat_t).Blocks*512 - info.Size()
		}
		if spare < least || spare > most {
			t.Errorf("%s: %d bytes on the disk beyond the size, want %d to %d", what, spare, least, most)
		}
	}
	fill(1)
	check("small", 0, slack)
	fill(3)
	check("grown", unit/4, unit)
	fill(2)
	check("before the end", 0, slack)
	fill(1)
	check("sealed", 0, slack)
	fill(3)
	check("grown again", unit/4, unit)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check("closed", 0, slack)

	d.free = 1 << 30
	l = open(t, d, store.Options{Settings: store.Settings{SegmentBytes: 6 * unit}})
	fill(4)
	check("on a disk that is nearly full", 0, slack)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
