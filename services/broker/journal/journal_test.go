package journal_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/journal"
	"github.com/waysideos/wayside/services/vfs"
)

// counter is a machine: how often each key was set, and its last value.
type counter struct {
	mu   sync.Mutex
	last map[uint32]uint32
	pad  int // bytes added to each change, to fill the journal quickly
	lost string
}

func newCounter() *counter { return &counter{last: map[uint32]uint32{}} }

func (c *counter) Apply(p []byte) error {
	if len(p) < 8 {
		return fmt.Errorf("change of %d bytes", len(p))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[binary.BigEndian.Uint32(p)] = binary.BigEndian.Uint32(p[4:])
	return nil
}

func (c *counter) Snapshot(emit func([]byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, v := range c.last {
		emit(c.change(k, v))
	}
	return nil
}

func (c *counter) Lost(what string) { c.lost = what }

func (c *counter) change(k, v uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, k)
	b = binary.BigEndian.AppendUint32(b, v)
	return append(b, make([]byte, c.pad)...)
}

func TestCrash(t *testing.T) {
	for seed := range uint64(200) {
		var fsys = vfs.NewCrashable(seed)
		acked := map[uint32]uint32{}
		for round := range 5 {
			m := newCounter()
			j, err := journal.Open(fsys, "meta", m, 2000)
			if err != nil {
				t.Fatalf("seed %d round %d: open: %v", seed, round, err)
			}
			for k, v := range acked {
				if got := m.last[k]; got < v {
					t.Fatalf("seed %d round %d: key %d is %d, acknowledged was %d", seed, round, k, got, v)
				}
			}
			m.pad = 100 // so that snapshots are taken
			fsys = crashWhileWriting(j, m, fsys, acked, uint32(round))
		}
	}
}

// crashWhileWriting runs some writers, cuts the power under them, and notes
// in acked what they were answered.
func crashWhileWriting(j *journal.Journal, m *counter, fsys *vfs.Crashable, acked map[uint32]uint32, round uint32) *vfs.Crashable {
	var mu sync.Mutex
	var wg sync.WaitGroup
	cut := make(chan struct{}, 1)
	for k := range uint32(4) {
		wg.Go(func() {
			for i := range uint32(50) {
				v := round*100 + i
				if j.Append(m.change(k, v)) != nil {
					return
				}
				mu.Lock()
				acked[k] = v
				mu.Unlock()
				if k == 0 && i == 7 {
					cut <- struct{}{}
				}
			}
		})
	}
	<-cut
	after := fsys.Crash()
	wg.Wait()
	j.Close()
	return after
}

func TestFullDiskGoesOn(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	m := newCounter()
	j, err := journal.Open(fsys, "meta", m, 2000)
	if err != nil {
		t.Fatal(err)
	}
	fsys.SetCapacity(100)
	m.pad = 200
	if err := j.Append(m.change(1, 1)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("full disk: got %v, want ENOSPC", err)
	}
	fsys.SetCapacity(0)
	if err := j.Append(m.change(1, 2)); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	j.Close()
	again := newCounter()
	if j, err = journal.Open(fsys, "meta", again, 0); err != nil || again.last[1] != 2 {
		t.Fatalf("reopened: %v, %v", again.last, err)
	}
	j.Close()
}

func TestFailedSyncBreaks(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	m := newCounter()
	j, err := journal.Open(fsys, "meta", m, 2000)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	fsys.SetHook(vfs.FailNth(vfs.OpSync, "meta/*", 1, syscall.EIO, false))
	if err := j.Append(m.change(1, 1)); !errors.Is(err, journal.ErrBroken) {
		t.Fatalf("failed sync: got %v, want ErrBroken", err)
	}
	if err := j.Append(m.change(1, 2)); !errors.Is(err, journal.ErrBroken) {
		t.Fatalf("after a failed sync: got %v, want ErrBroken", err)
	}
	if m.last[1] != 0 {
		t.Errorf("a change that was refused was applied")
	}
}

func FuzzOpen(f *testing.F) {
	m := newCounter()
	b := frame.Header("WAYSJRNL", 1)
	b = frame.Append(b, m.change(1, 2))
	f.Add(frame.Append(b, m.change(3, 4)))
	f.Add(b[:20])
	f.Add(make([]byte, 40))
	f.Add([]byte("garbage from its first byte, and longer than a header"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewCrashable(1)
		if err := fsys.MkdirAll("meta"); err != nil {
			t.Fatal(err)
		}
		if err := frame.WriteFile(fsys, "meta/journal-0000000000", b); err != nil {
			t.Fatal(err)
		}
		m := newCounter()
		j, err := journal.Open(fsys, "meta", m, 2000)
		if errors.Is(err, frame.ErrNewer) {
			return
		}
		if err != nil {
			t.Fatalf("damage keeps the journal from opening: %v", err)
		}
		if err := j.Append(m.change(9, 9)); err != nil {
			t.Fatalf("append after recovery: %v", err)
		}
		j.Close()
		again := newCounter()
		if j, err = journal.Open(fsys, "meta", again, 0); err != nil || again.last[9] != 9 {
			t.Fatalf("what was appended after recovery is gone: %v, %v", again.last, err)
		}
		j.Close()
	})
}
