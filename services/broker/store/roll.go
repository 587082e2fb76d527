package store

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"github.com/waysideos/wayside/services/vfs"
)

// roomFor waits until a batch of n bytes may be appended. It rolls the active
// segment when the batch does not fit any more, and makes the first
// transactional batch of a log known beforehand.
func (l *Log) roomFor(n int64, h Header) error {
	for {
		first := h.Transactional() && !l.saved.Transactional
		far := l.leo+int64(h.LastOffsetDelta)-l.act.base > math.MaxInt32
		fits := l.act.size == 0 || (l.act.size+n <= l.set.SegmentBytes && !far && !l.rollDue())
		var err error
		switch {
		case l.closed:
			return ErrClosed
		case l.err != nil:
			return l.err
		case l.rolling, l.saving && (first || !fits):
			l.idle.Wait() // lets the lock go: look again
		case first:
			err = l.markTransactional()
		case fits:
			return nil
		case l.synced < l.leo || l.fsyncing:
			l.syncOnce()
		default:
			err = l.roll()
		}
		if err != nil {
			return err
		}
	}
}

// roll seals the active segment, whose records are all durable, and begins
// the next. Order: indexes synced, next segment made, checkpoint synced and
// renamed, then one directory sync makes all those names durable; nothing is
// written to the next segment before. All of that without the lock: appends
// wait, reading goes on.
func (l *Log) roll() error {
	next := segment{dir: l.dir, base: l.leo, first: l.age, last: l.age}
	l.act.unreserve()
	x := l.act.files()
	var f vfs.File
	l.rolling = true
	err := l.save(l.point(l.start, next.base, 0), func() error { return x.write(l.fsys) }, func() (err error) {
		f, err = l.fsys.Create(next.logName())
		return err
	})
	l.rolling = false
	if err != nil {
		return l.rollFailed(err, f, next)
	}
	l.sealed = append(l.sealed, l.act.seal())
	l.act.file.release()
	l.act = active{segment: next, index: &index{maxMs: -1}, file: newHandle(f)}
	l.hwPos = 0
	return nil
}

// seal is the segment as one that is not written any more.
func (a *active) seal() segment {
	s := a.segment
	s.newestMs, s.hasTime = a.maxMs, a.maxMs >= 0
	s.hasAborted = s.hasAborted || len(a.aborted) > 0
	return s
}

// rollFailed takes the next segment away, if f says that it was made.
func (l *Log) rollFailed(err error, f vfs.File, next segment) error {
	if f != nil {
		f.Close()
		if e := l.fsys.Remove(next.logName()); e != nil {
			err = fmt.Errorf("%v; and then: %v", err, e)
		}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("roll segment in %s: %w", l.dir, ErrFull)
	case f == nil && (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)): // the checkpoint was not begun
		return fmt.Errorf("roll segment in %s: %w", l.dir, ErrFiles)
	}
	l.fail(fmt.Errorf("roll segment in %s: %v", l.dir, err))
	return l.err
}

// rollDue reports whether the active segment is so old that another should
// take its place: so retention and compaction reach it.
func (l *Log) rollDue() bool {
	limit := l.set.SegmentMs
	if c := l.set.Compaction; c.Compact && c.MaxLagMs > 0 && (limit <= 0 || c.MaxLagMs < limit) {
		limit = c.MaxLagMs
	}
	return limit > 0 && l.act.size > 0 && l.tick()-l.act.first >= limit
}

// rollNow seals the active segment, which is not empty, when all of it is
// durable.
func (l *Log) rollNow() error {
	base := l.act.base
	l.awaitDurable()
	switch {
	case l.closed:
		return ErrClosed
	case l.err != nil:
		return l.err
	case l.act.base != base || l.act.size == 0:
		return nil // an append has rolled meanwhile
	}
	if err := l.roll(); err != nil {
		return err
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}
