package store

import (
	"errors"
	"fmt"
	"sort"

	"github.com/waysideos/wayside/services/vfs"
)

// Slice is a range of a segment file that holds durable batches, the first of
// them whole. Release it when done.
type Slice struct {
	h    *handle
	off  int64
	n    int64
	more bool // see More
}

// Len is the number of bytes.
func (s *Slice) Len() int64 {
	if s == nil {
		return 0
	}
	return s.n
}

// File returns the file and the position in it, for sendfile.
func (s *Slice) File() (vfs.File, int64) { return s.h.File, s.off }

// ReadAt fills p from position off of the slice; it must lie within Len.
func (s *Slice) ReadAt(p []byte, off int64) error {
	if n, err := s.h.ReadAt(p, s.off+off); n < len(p) {
		return fmt.Errorf("read segment: %d bytes of %d: %v", n, len(p), err)
	}
	return nil
}

// Release lets the file be closed.
func (s *Slice) Release() {
	if s != nil {
		s.h.release()
	}
}

// view is what a reader needs of one segment, taken under the lock.
type view struct {
	seg    segment
	file   *handle
	limit  int64 // position up to which the segment may be read
	active bool  // its index is pos and times; a sealed one's is in files
	pos    []posEntry
	times  []timeEntry
	upTo   int64 // offset at which reading ends, if that is before limit; else 0
	bad    []Damage
}

// Read returns the batches from the one that holds offset on, at most max
// bytes of one segment. Only its first batch is sure to be whole. When that
// one alone is longer than max, it is returned if one is set, else nothing.
// At the high watermark nothing is returned.
func (l *Log) Read(offset, max int64, one bool) (*Slice, error) {
	return l.read(offset, max, one, false)
}

// ReadCommitted is Read up to the last stable offset. The slice may hold
// records of aborted transactions: see Aborted.
func (l *Log) ReadCommitted(offset, max int64, one bool) (*Slice, error) {
	return l.read(offset, max, one, true)
}

func (l *Log) read(offset, max int64, one, committed bool) (*Slice, error) {
	for {
		v, err := l.viewAt(offset, committed)
		if err != nil || v == nil {
			return nil, err
		}
		s, err := l.slice(v, offset, max, one)
		if s == nil {
			v.file.release()
		}
		if err == errReplaced {
			continue
		}
		if err != errNoBatch {
			if s != nil {
				l.noteRead(offset, v.seg.base)
			}
			return s, err
		}
		if v.active {
			return nil, nil
		}
		offset = l.segmentAfter(v.seg.base) // a segment was lost: consumers go on behind the gap
	}
}

var errNoBatch = errors.New("no batch at or behind the offset")

// segmentAfter returns the base of the segment that follows on one.
func (l *Log) segmentAfter(base int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sealed {
		if s.base > base {
			return s.base
		}
	}
	return l.act.base
}

func (l *Log) slice(v *view, offset, max int64, one bool) (*Slice, error) {
	pos, h, err := l.seek(v, offset, func(h Header) bool { return h.LastOffset() >= offset })
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, errNoBatch
	}
	limit, err := l.limitOf(v)
	if err != nil {
		return nil, err
	}
	limit = whole(v.bad, pos, limit)
	n := min(limit-pos, max)
	if n < h.Size() {
		if !one {
			return nil, nil
		}
		n = h.Size()
	}
	return &Slice{h: v.file, off: pos, n: n, more: !v.active || n < limit-pos}, nil
}

// limitOf is the position up to which a view may be read.
func (l *Log) limitOf(v *view) (int64, error) {
	if v.upTo == 0 {
		return v.limit, nil
	}
	pos, h, err := l.seek(v, v.upTo, func(h Header) bool { return h.LastOffset() >= v.upTo })
	if err != nil || h == nil {
		return v.limit, err // reading ends in a later segment
	}
	return pos, nil
}

// viewAt finds the segment that holds offset, opened; nil at the high
// watermark and between it and the log's end. A committed view ends at the
// last stable offset.
func (l *Log) viewAt(offset int64, committed bool) (v *view, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if offset < l.start || offset > l.leo {
		return nil, fmt.Errorf("%w: %d, log is %d to %d", ErrOutOfRange, offset, l.start, l.leo)
	}
	end := l.hw
	if committed {
		end = l.lastStable()
	}
	if offset >= end {
		return nil, nil
	}
	if offset >= l.act.base {
		v = l.activeView()
	} else {
		i := sort.Search(len(l.sealed), func(i int) bool { return l.sealed[i].base > offset }) - 1
		if v, err = l.sealedView(max(i, 0)); err != nil {
			return nil, err
		}
	}
	if end < l.hw {
		v.upTo = end
	}
	return v, nil
}

func (l *Log) activeView() *view {
	return &view{
		seg: l.act.segment, file: l.act.file.retain(), limit: l.hwPos,
		active: true, pos: l.act.pos, times: l.act.times, bad: l.damagedIn(l.act.base),
	}
}

func (l *Log) sealedView(i int) (*view, error) {
	seg := l.sealed[i]
	f, err := l.fsys.Open(seg.logName())
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return &view{seg: seg, file: newHandle(f), limit: seg.size, bad: l.damagedIn(seg.base)}, nil
}

// position finds by index where to begin looking for offset.
func (l *Log) position(v *view, offset int64) (int64, error) {
	rel := int32(offset - v.seg.base)
	if v.active {
		return floor(v.pos, rel), nil
	}
	entry, err := searchFile(l.fsys, v.seg.indexName(), posEntrySize, func(b []byte) bool { return decodePos(b).rel > rel })
	if err != nil || entry == nil {
		return 0, err
	}
	if e := decodePos(entry); e.rel <= rel && int64(e.pos) < v.limit {
		return int64(e.pos), nil
	}
	return 0, nil
}

// walk goes from batch to batch from pos until found says yes, and returns
// where that batch lies; nil when there is none below the limit.
func walk(v *view, pos int64, found func(Header) bool) (int64, *Header, error) {
	buf, next := make([]byte, HeaderSize), v.seg.base
	for pos = skip(v.bad, pos); pos+HeaderSize <= v.limit; pos = skip(v.bad, pos) {
		if n, err := v.file.ReadAt(buf, pos); n < HeaderSize {
			return 0, nil, fmt.Errorf("read %s at %d: %v", v.seg.logName(), pos, err)
		}
		h, err := ParseHeader(buf)
		if err != nil {
			return 0, nil, &CorruptError{File: v.seg.logName(), Pos: pos, Offset: next, Err: err}
		}
		if found(h) {
			return pos, &h, nil
		}
		pos, next = pos+h.Size(), h.LastOffset()+1
	}
	return 0, nil, nil
}
