package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Compaction keeps of each key the last record, and of each log what Kafka
// keeps: offsets, tombstones for a time, the last batch of each producer,
// markers as long as their transaction's records. It goes over sealed segments
// only, up to the last stable offset, batch by batch, in a fixed amount of
// memory. A segment of which nothing would go is not written again.
//
// What is kept of it in the checkpoint is a list of (offset, age): up to that
// offset the log was compacted for the first time when it was so old. The last
// offset is where the next pass finds new keys; a tombstone before an offset
// whose age lies delete.retention.ms back may go. (Kafka writes that time into
// the batches, KIP-534; here they keep what the producer sent.)

// Compacted is what compaction has done.
type Compacted struct {
	Passes     int
	Read       int64 // bytes of the segments that were looked at
	Written    int64 // bytes of those that were written
	Freed      int64 // bytes that the log is shorter
	Unreadable int64 // batches that cannot be decompressed, and stay
}

// maxCleaned bounds the list in the checkpoint.
const maxCleaned = 32

// plan is what there is to compact.
type plan struct {
	segs       []segment
	from, upTo int64 // offsets of what was never compacted
	clean      int64 // bytes before from
	dirty      int64
	waited     int64 // ms for which the oldest of it has been waiting
	expired    bool  // tombstones or markers may go
}

// plan looks for segments that may be compacted. l.mu is held.
func (l *Log) plan() plan {
	p := plan{from: l.start, upTo: l.start}
	c, age := l.set.Compaction, l.tick()
	if n := len(l.keep.cleaned); n > 0 {
		p.from = max(p.from, l.keep.cleaned[n-1].Offset)
	}
	p.upTo = p.from
	end := min(l.act.base, l.saved.Segment, l.lastStable())
	for i, s := range l.sealed {
		next := l.nextBase(i)
		if next > end || (next > p.from && age-s.last < c.MinLagMs) {
			break
		}
		p.segs = append(p.segs, s)
		p.upTo = max(p.upTo, next)
		if next <= p.from {
			p.clean += s.size
			continue
		}
		if p.dirty == 0 {
			p.waited = age - s.first
		}
		p.dirty += s.size
	}
	for _, t := range l.keep.cleaned {
		p.expired = p.expired || (t.Passing > 0 && age-t.Age >= c.DeleteRetentionMs)
	}
	return p
}

// due reports whether the topic's configuration asks for compaction now.
func (p *plan) due(c Compaction) bool {
	switch {
	case !c.Compact || len(p.segs) == 0:
		return false
	case p.expired:
		return true
	case p.dirty == 0:
		return false
	}
	return p.ratio() >= c.MinDirtyRatio || (c.MaxLagMs > 0 && p.waited >= c.MaxLagMs)
}

func (p *plan) ratio() float64 { return float64(p.dirty) / float64(p.dirty+p.clean) }

// CompactionDue says how much of the log was never compacted, as a share, and
// whether the topic's configuration asks for compaction now.
func (l *Log) CompactionDue() (dirty float64, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.err != nil || !l.set.Compaction.Compact {
		return 0, false
	}
	p := l.plan()
	if !p.due(l.set.Compaction) {
		return 0, false
	}
	return p.ratio(), true
}

// Compact compacts the log if that is due. It ends early, and without an
// error, when the log is closed. pace bounds how fast it reads and writes.
func (l *Log) Compact(ctx context.Context, pace Pace) (Compacted, error) {
	ctx, end := l.working(ctx)
	defer end()
	var done Compacted
	if _, due := l.CompactionDue(); !due {
		return done, nil
	}
	m := newOffsetMap(l.opts.compactMap())
	for {
		more, err := l.compactOnce(ctx, pace, m, &done)
		switch {
		case errors.Is(err, ErrClosed), l.stop.Load():
			return done, nil
		case err != nil:
			return done, fmt.Errorf("compact %s: %w", l.dir, err)
		case !more:
			return done, nil
		}
	}
}

// compactOnce makes one pass over the log. There are more when the keys that
// are new do not fit the map.
func (l *Log) compactOnce(ctx context.Context, pace Pace, m *offsetMap, done *Compacted) (more bool, err error) {
	l.mu.Lock()
	p, set := l.plan(), l.set
	c := &cleaner{keys: newKeyReader(), newest: m, from: p.from, old: l.oldest(set.Compaction), last: l.lastBatches(), pending: map[int64]bool{}}
	closed := l.closed || l.err != nil
	l.mu.Unlock()
	if closed || !(p.due(set.Compaction) || (done.Passes > 0 && p.dirty > 0)) {
		return false, nil
	}
	r := &run{l: l, ctx: ctx, pace: pace, c: c, segs: p.segs, max: set.SegmentBytes, done: done}
	m.clear()
	if c.upTo, err = r.learn(p.from, p.upTo); err != nil {
		return false, err
	}
	if err := r.rewrite(); err != nil {
		return false, err
	}
	done.Passes++
	done.Unreadable += c.unreadable
	return c.upTo < p.upTo, l.noteCleaned(c, set.Compaction)
}

// oldest is the offset before which tombstones and markers may go.
func (l *Log) oldest(c Compaction) int64 {
	old := int64(math.MinInt64)
	for _, t := range l.keep.cleaned {
		if l.age-t.Age >= c.DeleteRetentionMs {
			old = t.Offset
		}
	}
	return old
}

func (l *Log) lastBatches() map[int64]lastBatch {
	last := make(map[int64]lastBatch, len(l.prods))
	for id, p := range l.prods {
		b := lastBatch{base: -1, epoch: p.Epoch}
		if n := len(p.Batches); n > 0 {
			b.base = p.Batches[n-1].Base
		}
		last[id] = b
	}
	return last
}

// noteCleaned makes durable how far a pass has come.
func (l *Log) noteCleaned(c *cleaner, set Compaction) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaitSaved()
	if l.closed || l.err != nil {
		return ErrClosed
	}
	age := l.tick()
	var list []cleanedTo
	for _, t := range l.keep.cleaned {
		if age-t.Age < set.DeleteRetentionMs {
			list = append(list, t)
		} else { // one stands for all that are old
			list = []cleanedTo{{Offset: t.Offset, Age: t.Age}}
		}
	}
	if n := len(list); n > 0 && list[n-1].Offset == c.upTo {
		list[n-1].Passing = max(list[n-1].Passing, min(c.passing, 1))
	} else {
		list = append(list, cleanedTo{Offset: c.upTo, Age: age, Passing: c.passing})
	}
	if len(list) > maxCleaned { // what is met earlier may stay longer
		i := 0
		for k := range list[:len(list)-1] {
			if list[k+1].Age-list[k].Age < list[i+1].Age-list[i].Age {
				i = k
			}
		}
		list[i+1].Passing += list[i].Passing
		list = slices.Delete(list, i, i+1)
	}
	l.keep.cleaned = list
	if err := l.save(l.saved); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

// run is one pass at work.
type run struct {
	l    *Log
	ctx  context.Context
	pace Pace
	c    *cleaner
	segs []segment
	max  int64 // bytes of a segment
	done *Compacted
	src  source

	found []foundKey // see learnBatch
}

// each reads the batches of a segment.
func (r *run) each(seg segment, f func(*stored) error) error {
	v, err := r.l.viewOf(seg)
	if err != nil {
		return err
	}
	defer v.file.release()
	aborted, err := r.l.abortedOf(seg)
	if err != nil {
		return err
	}
	r.c.setAborted(aborted)
	r.src.v, r.src.pace, r.src.stop = v, r.pace, func() bool { return r.l.stop.Load() || r.ctx.Err() != nil }
	err = r.src.each(r.ctx, f)
	if r.ctx.Err() != nil {
		return ErrClosed
	}
	if errors.Is(err, ErrCorrupt) {
		r.l.suspectSegment(seg.base)
	}
	return err
}

// judged is what one segment will come to.
type judged struct {
	segment
	end     int64 // offset at which the next begins
	left    int64 // bytes, at most
	changes bool
	pending map[int64]bool // of the cleaner, before the segment
}

// rewrite goes over the segments in groups that fit one new segment.
func (r *run) rewrite() error {
	var group []judged
	var left int64
	for _, seg := range r.segs {
		if seg.base >= r.c.upTo && r.c.upTo > r.c.from {
			break
		}
		j, err := r.judge(seg)
		if err != nil {
			return err
		}
		if len(group) > 0 && (left+j.left > r.max || j.end-group[0].base > math.MaxInt32) {
			if err := r.rewriteGroup(group, left); err != nil {
				return err
			}
			group, left = nil, 0
		}
		group, left = append(group, j), left+j.left
	}
	if len(group) == 0 {
		return nil
	}
	return r.rewriteGroup(group, left)
}

// judge reads a segment and counts what stays.
func (r *run) judge(seg segment) (judged, error) {
	j := judged{segment: seg, pending: maps.Clone(r.c.pending), end: r.l.endOfSegment(seg.base)}
	err := r.each(seg, func(b *stored) error {
		switch v, _ := r.c.decide(b); v {
		case keepWhole:
			j.left += b.Size()
		case keepEmpty:
			if b.Records > 0 {
				j.changes = true
			}
			j.left += HeaderSize
		case keepSome:
			j.changes = true
			j.left += b.Size()
		case dropWhole:
			j.changes = true
		}
		return nil
	})
	r.done.Read += seg.size
	return j, err
}

// rewriteGroup puts one segment in the place of a group, if that changes
// anything worth the writing.
func (r *run) rewriteGroup(group []judged, left int64) error {
	changes, largest := false, int64(0)
	segs := make([]segment, len(group))
	var before int64
	for i, j := range group {
		changes = changes || j.changes
		largest = max(largest, j.left)
		segs[i] = j.segment
		before += j.size
	}
	// A large segment is not written again only to take in a small one.
	if !changes && (len(group) == 1 || largest > left/4*3) {
		return nil
	}
	after, passing, unreadable := r.c.pending, r.c.passing, r.c.unreadable
	r.c.pending = group[0].pending
	w, err := r.write(segs)
	r.c.pending, r.c.passing, r.c.unreadable = after, passing, unreadable // judge has counted
	if err != nil {
		return err
	}
	ok, err := r.l.replace(segs, w)
	if err != nil || !ok {
		if !errors.Is(err, ErrReadOnly) { // else the swap may be on the disk, and needs its files
			w.drop()
		}
		return cmpErr(err, ErrClosed)
	}
	r.done.Written += w.size
	r.done.Freed += before - w.size
	return nil
}

func (r *run) write(group []segment) (*rewriter, error) {
	seg := segment{dir: r.l.dir, base: group[0].base}
	w, err := newRewriter(r.ctx, r.l.fsys, seg, r.pace)
	if err != nil {
		return nil, err
	}
	defer w.f.Close()
	for _, seg := range group {
		err := r.each(seg, func(b *stored) error {
			v, left := r.c.decide(b)
			return w.put(r.c, b, v, left)
		})
		if err != nil {
			w.drop()
			return nil, err
		}
	}
	if err := w.finish(); err != nil {
		w.drop()
		return nil, err
	}
	return w, nil
}

// viewOf opens a sealed segment if it is still the same.
func (l *Log) viewOf(seg segment) (*view, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.sealedAt(seg.base)
	if l.closed || !ok || l.sealed[i].version != seg.version {
		return nil, ErrClosed // trimmed: another pass
	}
	return l.sealedView(i)
}

func (l *Log) endOfSegment(base int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.sealedAt(base); ok {
		return l.nextBase(i)
	}
	return math.MaxInt64
}

// abortedOf returns the aborted transactions with records in a sealed segment.
func (l *Log) abortedOf(seg segment) ([]AbortedTxn, error) {
	return l.Aborted(seg.base, l.endOfSegment(seg.base))
}

func (l *Log) suspectSegment(base int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep.suspect = base + 1
}

// CompactedTo is the offset up to which the log was compacted.
func (l *Log) CompactedTo() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.keep.cleaned); n > 0 {
		return l.keep.cleaned[n-1].Offset
	}
	return l.start
}
