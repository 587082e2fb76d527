// Package journal keeps a state machine durable: a log of changes, replayed
// at start, cut short by snapshots. A change is answered for only after it is
// on stable storage; one sync serves all that wait.
package journal

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// Machine is the state that a journal keeps. Calls never overlap.
type Machine interface {
	// Apply makes one change. It is called in order, when the change is
	// durable, and again at replay. It must not keep payload. A change that
	// cannot be applied at replay is lost.
	Apply(payload []byte) error
	// Lost is told, before the state is written anew, that acknowledged changes
	// are gone: Open has applied what could be read, and there is no more.
	Lost(what string)
	// Snapshot emits changes that rebuild the present state from nothing.
	Snapshot(emit func(payload []byte)) error
}

// ErrBroken says that a write or sync has failed before: what the disk holds
// is unknown, so no change is taken until the broker starts anew.
var ErrBroken = errors.New("journal is read-only after a storage error")

// CompactAt is the smallest journal, in bytes, worth a snapshot.
const CompactAt = 4 << 20

// Journal is safe for concurrent use.
type Journal struct {
	fsys vfs.FS
	dir  string
	m    Machine

	compactAt int64

	mu      sync.Mutex
	gen     uint64 // of the snapshot and journal file in force
	f       vfs.File
	size    int64
	limit   int64 // size at which to write a snapshot
	pending []change
	syncing bool
	broken  error
	wg      sync.WaitGroup
	cut     int64

	// Of Open only.
	repaired bool
	repairs  []string
	damaged  []string // files that are set aside once the state is written anew
	copied   string   // the journal of which a copy was kept
	lost     []string // see noteLost
}

// change waits for its sync.
type change struct {
	payload []byte
	done    chan error
}

// Append makes one change durable, applies it, and returns. After ENOSPC the
// journal goes on when there is room; any other error breaks it for good.
func (j *Journal) Append(payload []byte) error {
	if len(payload) > frame.MaxPayload {
		return fmt.Errorf("change of %d bytes, at most %d are possible", len(payload), frame.MaxPayload)
	}
	c := change{payload, make(chan error, 1)}
	if err := j.write(c); err != nil {
		return err
	}
	return <-c.done
}

func (j *Journal) write(c change) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	buf := frame.Append(nil, c.payload)
	if _, err := j.f.WriteAt(buf, j.size); err != nil {
		return j.writeFailed(err)
	}
	j.size += int64(len(buf))
	j.pending = append(j.pending, c)
	if !j.syncing {
		j.syncing = true
		j.wg.Go(j.flush)
	}
	return nil
}

// writeFailed decides what a failed write means. A full disk has lost
// nothing: the half-written tail is cut off again.
func (j *Journal) writeFailed(err error) error {
	if errors.Is(err, syscall.ENOSPC) && j.f.Truncate(j.size) == nil {
		return fmt.Errorf("write %s: %w", j.name("journal", j.gen), err)
	}
	return j.fail(fmt.Errorf("write %s: %v", j.name("journal", j.gen), err))
}

func (j *Journal) fail(err error) error {
	j.broken = fmt.Errorf("%w: %v", ErrBroken, err)
	return j.broken
}

// flush syncs until nothing waits. One runs at a time.
func (j *Journal) flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.pending) > 0 {
		batch, f := j.pending, j.f
		j.pending = nil
		j.mu.Unlock()
		err := f.Sync()
		j.mu.Lock()
		j.settle(batch, err)
		if j.broken == nil && j.size >= j.limit {
			j.compact()
		}
	}
	j.syncing = false
}

// settle applies a synced batch, or fails it and everything behind it.
func (j *Journal) settle(batch []change, err error) {
	if err != nil {
		err = j.fail(fmt.Errorf("sync %s: %v", j.name("journal", j.gen), err))
		batch = append(batch, j.pending...)
		j.pending = nil
	}
	for _, c := range batch {
		if err == nil {
			c.done <- j.m.Apply(c.payload)
		} else {
			c.done <- err
		}
	}
}

// compact writes a snapshot and starts the next journal file. What is pending
// lies in the old file, so it is settled first. A snapshot that cannot be
// written costs nothing: the old pair stays in force and is tried again later.
func (j *Journal) compact() {
	batch := j.pending
	j.pending = nil
	if len(batch) > 0 {
		if j.settle(batch, j.f.Sync()); j.broken != nil {
			return
		}
	}
	if err := j.start(j.gen + 1); err != nil {
		j.limit = j.size + j.compactAt
		return
	}
}

// Err is the reason why the journal takes no changes; nil when it does.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// Cut is how many bytes of torn tail Open dropped.
func (j *Journal) Cut() int64 { return j.cut }

// Close waits for what is pending and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.broken == nil {
		j.broken = errors.New("journal is closed")
	}
	j.mu.Unlock()
	j.wg.Wait()
	return j.f.Close()
}
