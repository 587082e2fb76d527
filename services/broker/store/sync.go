package store

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

// Syncer bounds how many syncs of all logs run at once (each holds an
// operating system thread) and knows how long the slowest has been running.
type Syncer struct {
	slots   chan int
	started []atomic.Int64 // Unix ns, by slot; 0 when idle
	observe func(time.Duration)
}

// NewSyncer allows n syncs at once. observe, if not nil, is told how long
// each took.
func NewSyncer(n int, observe func(time.Duration)) *Syncer {
	s := &Syncer{slots: make(chan int, n), started: make([]atomic.Int64, n), observe: observe}
	for i := range n {
		s.slots <- i
	}
	return s
}

// sync syncs f when a slot is free.
func (s *Syncer) sync(f vfs.File) error {
	slot := <-s.slots
	begin := time.Now()
	s.started[slot].Store(begin.UnixNano())
	err := f.Sync()
	s.started[slot].Store(0)
	s.slots <- slot
	if s.observe != nil {
		s.observe(time.Since(begin))
	}
	return err
}

// Slowest is for how long the oldest sync under way has been running.
func (s *Syncer) Slowest() time.Duration {
	var oldest time.Duration
	for i := range s.started {
		if at := s.started[i].Load(); at != 0 {
			oldest = max(oldest, time.Since(time.Unix(0, at)))
		}
	}
	return oldest
}

// kick sees to it that what was appended gets synced: at once when somebody
// waits for it, else after a linger or more. l.mu is held.
func (l *Log) kick(urgent bool) {
	if urgent && !l.urgent {
		l.urgent = true
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	if !l.syncing {
		l.syncing = true
		go l.syncLoop() // Close waits until syncing is false
	}
}

// syncLoop syncs until the whole log is durable. One runs at a time, and none
// while there is nothing to do.
func (l *Log) syncLoop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.synced < l.leo && l.err == nil && !l.closed {
		l.linger()
		l.syncOnce()
	}
	l.syncing = false
	if !l.fsyncing {
		l.closeMark()
	}
	l.idle.Broadcast()
}

// A sync costs about the same CPU time for 100 KB as for 1 MB, and wears flash
// by more than what it writes. So one that nobody waits for is put off: for a
// linger while somebody reads the log, who is given what is durable only, and
// for up to busyLingers while each brings busyBytes; for idleLingers when
// nobody does. What would be lost with the power stays bounded in bytes too.
// Towards the end of a segment there is a sync for every busyEnough: a roll,
// for which appends wait, then finds little to sync.
const (
	busyLingers = 4
	busyBytes   = 64 << 10
	busyEnough  = 1 << 20
	idleLingers = 20
	idleEnough  = 16 << 20
)

// linger waits before a sync. l.mu is held, but not meanwhile.
func (l *Log) linger() {
	file, begin := l.act.file, l.act.size
	for n := 1; !l.urgent && !l.closed && l.opts.Linger > 0; n++ {
		before := l.act.size
		l.pause()
		lingers, enough := idleLingers, int64(idleEnough)
		if l.act.size > l.set.SegmentBytes-idleEnough {
			enough = busyEnough
		}
		if l.watched() {
			lingers, enough = busyLingers, busyEnough
			if l.act.size-before < busyBytes {
				return
			}
		}
		if n >= lingers || l.act.file != file || l.act.size-begin >= enough {
			return
		}
	}
}

// watched reports whether somebody is told, or waits to be, what becomes durable.
func (l *Log) watched() bool { return len(l.watchers) > 0 || l.changed != nil }

// pause waits for a linger, or until a sync becomes urgent.
func (l *Log) pause() {
	t := time.NewTimer(l.opts.Linger)
	defer t.Stop()
	l.mu.Unlock()
	select {
	case <-l.wake:
	case <-t.C:
	}
	l.mu.Lock()
}

// syncOnce makes durable what is written by now and moves the high watermark
// there. l.mu is held, but not while the disk works. Syncs of one file never
// overlap: the kernel reports a write-back error to one of them only.
func (l *Log) syncOnce() {
	for l.fsyncing {
		l.idle.Wait()
	}
	if l.synced == l.leo || l.err != nil {
		return
	}
	l.urgent = false
	select {
	case <-l.wake:
	default:
	}
	target, pos, seg, file := l.leo, l.act.size, l.act.base, l.act.file
	l.fsyncing = true
	l.mu.Unlock()
	err := l.opts.Syncer.sync(file)
	if err == nil {
		l.writeMark(mark{seg, pos, target})
	}
	l.mu.Lock()
	l.fsyncing = false
	l.idle.Broadcast()
	if err != nil {
		l.fail(fmt.Errorf("sync %s: %v", l.act.logName(), err))
		return
	}
	if seg != l.act.base || target <= l.synced {
		return
	}
	l.synced = target
	if target > l.hw {
		l.advance(target, pos)
	}
}

// advance moves the high watermark and wakes who waits for it.
func (l *Log) advance(hw, pos int64) {
	l.hw, l.hwPos = hw, pos
	if len(l.txns.ended) > 0 {
		l.txns.settle(hw)
	}
	l.wakeAll()
}

// fail makes the log read-only for good: after a failed write or sync nobody
// knows what the disk holds (the kernel may have dropped the pages and
// report success next time), so it is not tried again.
func (l *Log) fail(err error) {
	if l.err == nil {
		l.err = fmt.Errorf("%w: %v", ErrReadOnly, err)
		l.opts.Log.Error("partition is read-only", "dir", l.dir, "err", err)
	}
	l.wakeAll()
}

func (l *Log) wakeAll() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	for _, w := range l.watchers {
		w.Changed()
	}
}

// Wait returns when every record below offset is durable, with ErrReadOnly
// when that will never be, or with the context's error.
func (l *Log) Wait(ctx context.Context, offset int64) error {
	for {
		l.mu.Lock()
		if l.hw >= offset {
			l.mu.Unlock()
			return nil
		}
		if l.err != nil || l.closed {
			err := l.err
			l.mu.Unlock()
			return cmpErr(err, ErrClosed)
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		ch := l.changed
		l.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// Watcher is told when a log has changed. It is called with the log locked: it
// neither blocks nor calls the log.
type Watcher interface{ Changed() }

// Watch tells w, which must be comparable, whenever the high watermark or the
// last stable offset moves and when the log turns read-only or closes, until
// Unwatch.
func (l *Log) Watch(w Watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers = append(l.watchers, w)
}

// Unwatch ends Watch.
func (l *Log) Unwatch(w Watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.watchers, w); i >= 0 {
		last := len(l.watchers) - 1
		l.watchers[i], l.watchers[last] = l.watchers[last], nil
		l.watchers = l.watchers[:last]
	}
}
