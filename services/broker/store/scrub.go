package store

import (
	"context"
	"fmt"
	"sync/atomic"
)

// scrubQuietMs is how long nothing must have been appended to a segment before
// it is scrubbed: what is hot in the page cache stays there.
const scrubQuietMs = 10 * 60 * 1000

// Scrub reads from the disk, past the page cache, the first quiet segment that
// begins at offset from or behind it, and verifies every batch. Damage becomes
// part of Stats: reading goes on behind it from then on. A sealed segment's
// index that does not match is made anew. It returns where to go on; -1 when
// the rest of the log need not be scrubbed now.
func (l *Log) Scrub(ctx context.Context, pace Pace, from int64) (next int64, err error) {
	ctx, done := l.working(ctx)
	defer done()
	seg, end, ok := l.quietSegment(from)
	if !ok {
		return -1, nil
	}
	return end, l.scrub(ctx, pace, seg)
}

// ScrubSuspect scrubs the segment in which a reader has met damage, or has
// read the same place again and again as if it could not use what it got.
func (l *Log) ScrubSuspect(ctx context.Context, pace Pace) error {
	l.mu.Lock()
	base := l.keep.suspect - 1
	l.keep.suspect = 0
	l.mu.Unlock()
	if base < 0 {
		return nil
	}
	ctx, done := l.working(ctx)
	defer done()
	l.mu.Lock()
	seg := l.act.segment
	if i, ok := l.sealedAt(base); ok {
		seg = l.sealed[i]
	}
	l.mu.Unlock()
	if seg.base != base {
		return nil
	}
	return l.scrub(ctx, pace, seg)
}

// quietSegment finds a segment to scrub, and the offset at which it ends.
func (l *Log) quietSegment(from int64) (segment, int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	age := l.tick()
	i, _ := l.sealedAt(from)
	for ; i < len(l.sealed); i++ {
		if s := l.sealed[i]; s.size > 0 {
			return s, l.nextBase(i), !l.closed && age-s.last >= scrubQuietMs
		}
	}
	quiet := l.act.size > 0 && l.synced == l.leo && age-l.act.last >= scrubQuietMs
	return l.act.segment, l.leo, !l.closed && quiet && from < l.leo && from <= l.act.base
}

// scrub verifies one segment. A segment that is replaced meanwhile has been
// verified by whoever rewrote it; a log that is closed is left alone.
func (l *Log) scrub(ctx context.Context, pace Pace, seg segment) error {
	err := l.verifySegment(ctx, pace, seg)
	if l.stop.Load() {
		return nil
	}
	return err
}

func (l *Log) verifySegment(ctx context.Context, pace Pace, seg segment) error {
	v, end, err := l.viewAny(seg)
	if err != nil || v == nil {
		return err
	}
	defer v.file.release()
	src := &source{v: v, pace: pace, buf: make([]byte, 0, scanChunk), cold: true}
	x := l.indexToScrub(v)
	offset := seg.base
	for pos := skip(v.bad, 0); pos < v.limit; pos = skip(v.bad, pos) {
		if l.stop.Load() {
			return nil
		}
		b, err := src.batch(ctx, pos)
		if err != nil {
			return err
		}
		if b == nil || b.BaseOffset < offset || b.LastOffset() >= end {
			if b, err = src.again(ctx, pos); err != nil {
				return err
			}
		}
		if b == nil || b.BaseOffset < offset || b.LastOffset() >= end {
			d := l.extent(v, pos, offset, end)
			if l.stop.Load() {
				return nil // it may go on for less
			}
			if err := l.noteDamage(v, d); err != nil {
				return err
			}
			pos, offset = d.End, d.To
			continue
		}
		x.met(b.Header, int32(b.LastOffset()-seg.base), pos)
		pos, offset = pos+b.Size(), b.LastOffset()+1
	}
	dropCache(v.file, 0, 0)
	if v.active {
		return nil
	}
	return l.scrubIndex(v, x)
}

// again reads a batch once more: a bus may err, too.
func (s *source) again(ctx context.Context, pos int64) (*stored, error) {
	s.at, s.buf = 0, s.buf[:0]
	return s.batch(ctx, pos)
}

// extent finds out how far damage at pos goes.
func (l *Log) extent(v *view, pos, offset, end int64) Damage {
	s := finder{f: v.file, limit: whole(v.bad, pos, v.limit), first: offset, below: end, stop: l.stop.Load}
	d := Damage{Segment: v.seg.base, Pos: pos, From: offset}
	if at, h, ok := s.next(pos); ok {
		d.End, d.To = at, h.BaseOffset
	} else {
		d.End, d.To = s.limit, end
	}
	return d
}

// noteDamage makes damage known, and durably so.
func (l *Log) noteDamage(v *view, d Damage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaitSaved()
	if i, ok := l.sealedAt(v.seg.base); l.closed || (!v.active && (!ok || l.sealed[i].version != v.seg.version)) {
		return nil
	}
	l.lost(d)
	if l.err != nil {
		return nil
	}
	if err := l.save(l.saved); err != nil {
		return fmt.Errorf("note damage in %s: %v", l.dir, err)
	}
	return nil
}

// viewAny opens a segment, sealed or active; nil when it is gone.
func (l *Log) viewAny(seg segment) (v *view, end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && seg.base == l.act.base {
		return l.activeView(), l.hw, nil
	}
	i, ok := l.sealedAt(seg.base)
	if l.closed || !ok || l.sealed[i].version != seg.version {
		return nil, 0, nil
	}
	v, err = l.sealedView(i)
	return v, l.nextBase(i), err
}

// rereads notices a reader that does not get on: a client that finds a wrong
// checksum asks for the same place for ever.
type rereads struct{ offset, count, suspected atomic.Int64 }

const (
	// manyRereads is far more than long polling makes.
	manyRereads = 200
	// suspectEveryMs bounds what such a reader can make the disk do.
	suspectEveryMs = 3600 * 1000
)

// noteRead is told of every read that found something.
func (l *Log) noteRead(offset, base int64) {
	r := &l.keep.rereads
	if r.offset.Swap(offset) != offset {
		r.count.Store(0)
		return
	}
	if r.count.Add(1) != manyRereads {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := l.tick(); r.suspected.Load() == 0 || age-r.suspected.Load() >= suspectEveryMs {
		r.suspected.Store(max(1, age))
		l.keep.suspect = base + 1
	}
}

// Suspect reports whether ScrubSuspect has something to do.
func (l *Log) Suspect() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keep.suspect > 0
}
