package store

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/waysideos/wayside/services/vfs"
)

// Slice is a range of a segment file that holds durable batches, the first of
// them whole. Release it when done.
type Slice struct {
	h   *handle
	off int64
	n   int64
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
}

// Read returns the batches from the one that holds offset on, at most max
// bytes of one segment. Only its first batch is sure to be whole. When that
// one alone is longer than max, it is returned if one is set, else nothing.
// At the high watermark nothing is returned.
func (l *Log) Read(offset, max int64, one bool) (*Slice, error) {
	for {
		v, err := l.viewAt(offset)
		if err != nil || v == nil {
			return nil, err
		}
		s, err := l.slice(v, offset, max, one)
		if s == nil {
			v.file.release()
		}
		if err != errNoBatch {
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
	pos, err := l.position(v, offset)
	if err != nil {
		return nil, err
	}
	pos, h, err := walk(v, pos, func(h Header) bool { return h.LastOffset() >= offset })
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, errNoBatch
	}
	n := min(v.limit-pos, max)
	if n < h.Size() {
		if !one {
			return nil, nil
		}
		n = h.Size()
	}
	return &Slice{h: v.file, off: pos, n: n}, nil
}

// viewAt finds the segment that holds offset, opened; nil at the high
// watermark and between it and the log's end.
func (l *Log) viewAt(offset int64) (*view, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if offset < l.start || offset > l.leo {
		return nil, fmt.Errorf("%w: %d, log is %d to %d", ErrOutOfRange, offset, l.start, l.leo)
	}
	if offset >= l.hw {
		return nil, nil
	}
	if offset >= l.act.base {
		return l.activeView(), nil
	}
	i := sort.Search(len(l.sealed), func(i int) bool { return l.sealed[i].base > offset }) - 1
	return l.sealedView(max(i, 0))
}

func (l *Log) activeView() *view {
	return &view{
		seg: l.act.segment, file: l.act.file.retain(), limit: l.hwPos,
		active: true, pos: l.act.pos, times: l.act.times,
	}
}

func (l *Log) sealedView(i int) (*view, error) {
	seg := l.sealed[i]
	f, err := l.fsys.Open(seg.logName())
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return &view{seg: seg, file: newHandle(f), limit: seg.size}, nil
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
	buf := make([]byte, HeaderSize)
	for pos+HeaderSize <= v.limit {
		if n, err := v.file.ReadAt(buf, pos); n < HeaderSize {
			return 0, nil, fmt.Errorf("read %s at %d: %v", v.seg.logName(), pos, err)
		}
		h, err := ParseHeader(buf)
		if err != nil {
			return 0, nil, fmt.Errorf("read %s at %d: %w", v.seg.logName(), pos, err)
		}
		if found(h) {
			return pos, &h, nil
		}
		pos += h.Size()
	}
	return 0, nil, nil
}

// TimeOffset is a record found by its timestamp.
type TimeOffset struct {
	Offset int64
	Ms     int64
	Epoch  int32
}

// OffsetForTime returns the first durable record whose timestamp is at least
// ms. In a compressed batch it is the batch's first record: nothing is
// skipped, some may come earlier than asked.
func (l *Log) OffsetForTime(ms int64) (TimeOffset, bool, error) {
	for i := 0; ; i++ {
		v, err := l.viewForTime(i, ms)
		if err != nil {
			return TimeOffset{}, false, err
		}
		if v == nil {
			return TimeOffset{}, false, nil
		}
		found, ok, err := l.timeIn(v, ms)
		v.file.release()
		if ok || err != nil {
			return found, ok, err
		}
		i = l.sealedIndex(v.seg.base)
	}
}

// sealedIndex returns the place of a segment among the sealed ones; their
// number for the active one.
func (l *Log) sealedIndex(base int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sort.Search(len(l.sealed), func(i int) bool { return l.sealed[i].base >= base })
}

// viewForTime opens the first segment, from the i-th on, that has a record as
// late as ms.
func (l *Log) viewForTime(i int, ms int64) (*view, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	for ; i < len(l.sealed); i++ {
		max, err := l.sealedMaxMs(i)
		if err != nil {
			return nil, err
		}
		if max >= ms {
			return l.sealedView(i)
		}
	}
	if i > len(l.sealed) || l.act.maxMs < ms {
		return nil, nil
	}
	return l.activeView(), nil
}

// unknownMs stands for a sealed segment without a time index: later than any
// timestamp, so that it is looked into and never deleted by age.
const unknownMs = 1 << 62

// sealedMaxMs reads the last entry of a sealed segment's time index, once.
// Without an index the segment has to be looked at.
func (l *Log) sealedMaxMs(i int) (int64, error) {
	s := &l.sealed[i]
	if s.hasTime {
		return s.newestMs, nil
	}
	entry, err := searchFile(l.fsys, s.timeName(), timeEntrySize, func([]byte) bool { return false })
	if err != nil && err != io.EOF {
		return 0, err
	}
	s.newestMs, s.hasTime = unknownMs, true
	if entry != nil {
		s.newestMs = decodeTime(entry).ms
	}
	return s.newestMs, nil
}

func (l *Log) timeIn(v *view, ms int64) (TimeOffset, bool, error) {
	rel := floorTime(v.times, ms)
	if !v.active {
		entry, err := searchFile(l.fsys, v.seg.timeName(), timeEntrySize, func(b []byte) bool { return decodeTime(b).ms > ms })
		if err != nil {
			return TimeOffset{}, false, err
		}
		if entry != nil {
			rel = decodeTime(entry).rel
		}
	}
	start, _ := l.Bounds()
	from := max(start, v.seg.base+int64(rel))
	pos, err := l.position(v, from)
	if err != nil {
		return TimeOffset{}, false, err
	}
	pos, h, err := walk(v, pos, func(h Header) bool { return h.LastOffset() >= from && h.MaxTimestamp >= ms })
	if err != nil || h == nil {
		return TimeOffset{}, false, err
	}
	return recordAt(v, pos, *h, ms)
}
