package store

import "fmt"

// Retention says what a log may forget. A negative limit is no limit.
type Retention struct {
	Bytes int64
	Ms    int64
}

// producerExpiryMs is how long an idle producer id is remembered (Kafka's
// producer.id.expiration.ms).
const producerExpiryMs = 24 * 3600 * 1000

// Retain deletes whole sealed segments that are beyond r. Age is measured
// from the newest record, or from the clock if that is earlier: a clock that
// jumps ahead deletes nothing.
func (l *Log) Retain(r Retention) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil {
		return nil
	}
	now := l.opts.Now().UnixMilli()
	l.prods.expire(now - producerExpiryMs)
	n, err := l.expired(r, now)
	if err != nil || n == 0 {
		return err
	}
	start := l.act.base
	if n < len(l.sealed) {
		start = l.sealed[n].base
	}
	return l.trim(max(start, l.start))
}

// expired counts the oldest sealed segments that may go.
func (l *Log) expired(r Retention, now int64) (int, error) {
	total, newest := l.act.size, l.act.maxMs
	for i, s := range l.sealed {
		ms, err := l.sealedMaxMs(i)
		if err != nil {
			return 0, err
		}
		total += s.size
		if ms < unknownMs {
			newest = max(newest, ms)
		}
	}
	n := 0
	for ; n < len(l.sealed); n++ {
		s := l.sealed[n]
		tooMuch := r.Bytes >= 0 && total-s.size >= r.Bytes
		tooOld := r.Ms >= 0 && s.newestMs < min(now, newest)-r.Ms
		if !tooMuch && !tooOld {
			break
		}
		total -= s.size
	}
	return n, nil
}

// Trim raises the log start to offset, which must not be above the high
// watermark, and deletes the segments that lie before it.
func (l *Log) Trim(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
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
	for (l.hw < l.leo || l.fsyncing) && l.err == nil {
		l.syncOnce()
	}
	if l.err != nil {
		return l.err
	}
	return l.trim(offset)
}

// trim first makes the new start durable, then removes files: the other way
// round a crash could leave a log that begins before its first file.
func (l *Log) trim(start int64) error {
	c := l.saved
	c.Start = start
	if c.Offset < start { // the point must not lie before the start
		if l.hw < l.leo || l.fsyncing {
			// Never wait for a sync here; the next round trims.
			return nil
		}
		if err := l.act.write(l.fsys, l.act.segment); err != nil {
			return fmt.Errorf("trim %s: %w", l.dir, err)
		}
		c = checkpoint{Start: start, Segment: l.act.base, Pos: l.act.size, Offset: l.leo, Producers: l.prods.snapshot()}
	}
	c.Epochs = l.epochs.trim(start)
	if err := l.saveCheckpoint(c); err != nil {
		return fmt.Errorf("trim %s: %w", l.dir, err)
	}
	l.start, l.epochs = start, c.Epochs
	for len(l.sealed) > 0 && l.nextBase(0) <= start {
		removeSegment(l.fsys, l.sealed[0])
		l.sealed = l.sealed[1:]
	}
	return nil
}

// nextBase is where the i-th sealed segment ends.
func (l *Log) nextBase(i int) int64 {
	if i+1 < len(l.sealed) {
		return l.sealed[i+1].base
	}
	return l.act.base
}
