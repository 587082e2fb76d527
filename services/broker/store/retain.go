package store

import "fmt"

// Retention says what a log may forget. A negative limit is no limit.
type Retention struct {
	Bytes int64
	Ms    int64
}

// Retain deletes whole segments that are beyond r, the oldest first; the
// active one too when all of it is, after another has taken its place. Age is
// counted from a segment's last append in the log's own time (see tick), and
// neither by records' timestamps nor by the wall clock: both can be wrong by
// years. It also rolls a segment that is due.
func (l *Log) Retain(r Retention) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaitSaved()
	if l.closed || l.err != nil {
		return nil
	}
	l.expireProducers()
	n := l.expired(r)
	if n > len(l.sealed) || (l.act.size > 0 && l.rollDue()) {
		if err := l.rollNow(); err != nil {
			return err
		}
		n = min(l.expired(r), len(l.sealed)) // others may have gone meanwhile
	}
	if n == 0 {
		return nil
	}
	return l.trim(max(l.nextBase(n-1), l.start))
}

// expired counts the oldest segments that may go; the active one is the last
// of them. What belongs to an open transaction stays.
func (l *Log) expired(r Retention) int {
	total := l.act.size
	for i := range l.sealed {
		total += l.sealed[i].size
	}
	stable := l.lastStable()
	for i := range len(l.sealed) + 1 {
		s, next := &l.act.segment, l.leo
		if i < len(l.sealed) {
			s, next = &l.sealed[i], l.nextBase(i)
		}
		tooMuch := r.Bytes >= 0 && total-s.size >= r.Bytes
		tooOld := r.Ms >= 0 && l.age-s.last > r.Ms
		if next > stable || !(tooMuch || tooOld) || (s.size == 0 && i == len(l.sealed)) {
			return i
		}
		total -= s.size
	}
	return len(l.sealed) + 1
}

// Trim raises the log start to offset, which must not be above the high
// watermark, and deletes the segments that lie before it.
func (l *Log) Trim(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaitSaved()
	switch {
	case l.closed:
		return ErrClosed
	case l.err != nil:
		return l.err
	case offset > l.hw: // not durable yet, or not there
		return fmt.Errorf("%w: trim to %d, high watermark is %d", ErrOutOfRange, offset, l.hw)
	case offset <= l.start:
		return nil
	}
	l.awaitDurable()
	if l.err != nil || l.closed {
		return cmpErr(l.err, ErrClosed)
	}
	return l.trim(max(offset, l.start))
}

// trim first makes the new start durable, then removes files: the other way
// round a crash could leave a log that begins before its first file.
func (l *Log) trim(start int64) error {
	c := l.saved
	c.Start = start
	var before []func() error
	if c.Offset < start { // the point must not lie before the start
		if l.synced < l.leo || l.fsyncing {
			// Never wait for a sync here; the next round trims.
			return nil
		}
		x := l.act.files()
		before = append(before, func() error { return x.write(l.fsys) })
		c = l.point(start, l.act.base, l.act.size)
	}
	c.Epochs = l.epochs.trim(start)
	if err := l.save(c, before...); err != nil {
		return fmt.Errorf("trim %s: %w", l.dir, err)
	}
	l.start, l.epochs = start, c.Epochs
	l.dropTrimmed()
	return nil
}

// dropTrimmed removes the segments before the log start, but for those that a
// compacted one is about to replace: that is finished first.
func (l *Log) dropTrimmed() {
	for len(l.sealed) > 0 && l.nextBase(0) <= l.start && l.sealed[0].base >= l.keep.swapping {
		l.forgetDamage(l.sealed[0].base, l.nextBase(0))
		removeSegment(l.fsys, l.sealed[0])
		l.sealed = l.sealed[1:]
	}
}

// nextBase is where the i-th sealed segment ends.
func (l *Log) nextBase(i int) int64 {
	if i+1 < len(l.sealed) {
		return l.sealed[i+1].base
	}
	return l.act.base
}
