package store_test

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// gated holds up the first operation op on a name that matches pattern until
// open is called; at is closed when it is reached.
func gated(fsys *vfs.Crashable, op vfs.Op, pattern string) (at <-chan struct{}, open func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fsys.SetHook(func(o vfs.Op, name string) error {
		if ok, _ := path.Match(pattern, name); o == op && ok {
			once.Do(func() {
				close(reached)
				<-gate
			})
		}
		return nil
	})
	return reached, func() { close(gate) }
}

// soon fails the test if f takes longer than anything on a disk in memory.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-ctx(t).Done():
		t.Fatalf("%s does not end", what)
	}
}

// TestReadWhileRolling: while a slow disk seals a segment, readers go on.
// Appends come behind it, in the next segment, and each step's failure and
// success are as if nobody had looked.
func TestReadWhileRolling(t *testing.T) {
	for _, at := range []struct {
		op   vfs.Op
		name string
	}{
		{vfs.OpSync, "p/*.index.tmp"}, {vfs.OpSync, "p/*.timeindex.tmp"}, {vfs.OpCreate, "p/*2.log"},
		{vfs.OpSync, "p/checkpoint.tmp"}, {vfs.OpSyncDir, "p"},
	} {
		fsys := vfs.NewCrashable(1)
		l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 250}})
		putDurable(t, l, spec{values: []string{"a"}, ms: 1})
		putDurable(t, l, spec{values: []string{"b"}, ms: 2})
		reached, goOn := gated(fsys, at.op, at.name)
		appended := make(chan error, 2)
		append := func(n int) {
			_, err := put(l, batch(spec{values: []string{strings.Repeat("c", n)}}))
			appended <- err
		}
		go append(100)
		<-reached
		go append(1) // it would fit the segment that is being sealed
		soon(t, "reading while the log rolls", func() {
			if got := readAll(t, l, 0); len(got) != 2 {
				t.Errorf("%s %s: %d records, want 2", at.op, at.name, len(got))
			}
			if found, ok, err := l.OffsetForTime(2); !ok || err != nil || found.Offset != 1 {
				t.Errorf("%s %s: offset by time: %+v, %v, %v", at.op, at.name, found, ok, err)
			}
		})
		select {
		case err := <-appended:
			t.Errorf("%s %s: appended while the log rolls, %v", at.op, at.name, err)
			appended <- err
		case <-time.After(5 * time.Millisecond):
		}
		goOn()
		must(t, <-appended)
		must(t, <-appended)
		must(t, l.Wait(ctx(t), 4))
		fsys.SetHook(nil)
		if s := l.Stats(); s.Segments != 2 || s.Err != nil {
			t.Errorf("%s %s: %d segments, %v", at.op, at.name, s.Segments, s.Err)
		}
		again := open(t, fsys.CrashClone(), store.Options{})
		if got := readAll(t, again, 0); len(got) != 4 {
			t.Errorf("%s %s: %d records after a power cut, want 4", at.op, at.name, len(got))
		}
		again.Close()
		must(t, l.Close())
	}
}

// TestAppendWhileSaving: a checkpoint in the middle of a segment holds up
// nobody but who has to write one too.
func TestAppendWhileSaving(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 250}})
	putDurable(t, l, spec{values: []string{"a"}})
	reached, goOn := gated(fsys, vfs.OpSync, "p/*.index.tmp")
	done := make(chan error, 2)
	go func() { done <- l.Save() }()
	<-reached
	soon(t, "appending while the log is saved", func() {
		putDurable(t, l, spec{values: []string{"b"}})
	})
	go func() { // begins a transaction, of which the checkpoint must know first
		_, err := put(l, batch(spec{values: []string{strings.Repeat("c", 100)}, pid: 7, attrs: 0x10}))
		done <- err
	}()
	goOn()
	must(t, <-done)
	must(t, <-done)
	must(t, l.Wait(ctx(t), 3))
	again := open(t, fsys.CrashClone(), store.Options{})
	if got := readAll(t, again, 0); len(got) != 3 || !inOpenTxn(again, 7) {
		t.Errorf("after a power cut: %d records, want 3; transaction is open: %v", len(got), inOpenTxn(again, 7))
	}
	again.Close()
	must(t, l.Close())
}

// TestCloseDoesNotWaitForPace: however slow housekeeping has to be.
func TestCloseDoesNotWaitForPace(t *testing.T) {
	age := int64(1)
	for _, tt := range []struct {
		name   string
		pauses int // how often it waits, at least
		work   func(*store.Log, store.Pace) error
	}{
		{"compaction", 5, func(l *store.Log, pace store.Pace) error {
			_, err := l.Compact(context.Background(), pace)
			return err
		}},
		{"scrub", 1, func(l *store.Log, pace store.Pace) error {
			_, err := l.Scrub(context.Background(), pace, 0)
			return err
		}},
	} {
		opts := store.Options{Settings: store.Settings{SegmentBytes: 700, Compaction: compacted}, Age: func() int64 { return age }}
		for pass := range tt.pauses {
			l := open(t, vfs.NewCrashable(1), opts)
			putKeys(t, l, 20)
			age += quiet
			var once sync.Once
			reached := make(chan struct{})
			n := 0
			ended := make(chan error, 1)
			go func() {
				ended <- tt.work(l, func(ctx context.Context, _ int64) error {
					if n++; n <= pass {
						return nil
					}
					once.Do(func() { close(reached) })
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-time.After(time.Hour):
						return nil
					}
				})
			}()
			select {
			case <-reached:
			case err := <-ended:
				t.Fatalf("%s: ended, %v, and has waited %d times only", tt.name, err, n)
			}
			soon(t, "closing during "+tt.name, func() { must(t, l.Close()) })
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	}
}

// TestRollWithoutFiles: a process that may open no more files has lost
// nothing; the next append tries again.
func TestRollWithoutFiles(t *testing.T) {
	for _, ext := range []string{".index.tmp", ".log"} {
		t.Run(ext, func(t *testing.T) {
			fsys := vfs.NewCrashable(1)
			l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 500}})
			defer l.Close()
			putDurable(t, l, spec{values: []string{strings.Repeat("a", 300)}})
			fsys.SetHook(func(op vfs.Op, name string) error {
				if op == vfs.OpCreate && strings.HasSuffix(name, ext) {
					return syscall.EMFILE
				}
				return nil
			})
			next := batch(spec{values: []string{strings.Repeat("b", 300)}})
			if _, err := put(l, next); !errors.Is(err, store.ErrFiles) {
				t.Fatalf("append: got %v, want ErrFiles", err)
			}
			fsys.SetHook(nil)
			putDurable(t, l, spec{values: []string{strings.Repeat("b", 300)}})
			if s := l.Stats(); s.Segments != 2 || s.HighWatermark != 2 {
				t.Errorf("after that: %+v, want two segments of a record each", s)
			}
		})
	}
}
