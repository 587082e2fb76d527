package store

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sort"
)

// TimeOffset is a record found by its timestamp.
type TimeOffset struct {
	Offset int64
	Ms     int64
	Epoch  int32
}

// OffsetForTime returns the first readable record whose timestamp is at least
// ms.
func (l *Log) OffsetForTime(ms int64) (TimeOffset, bool, error) {
	if err := l.learnTimes(); err != nil {
		return TimeOffset{}, false, err
	}
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
		if err == errReplaced {
			i = -1
			continue
		}
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
	ms, err := l.readMaxMs(*s)
	if err == nil {
		s.newestMs, s.hasTime = ms, true
	}
	return ms, err
}

func (l *Log) readMaxMs(s segment) (int64, error) {
	entry, err := searchFile(l.fsys, s.timeName(), timeEntrySize, func([]byte) bool { return false })
	if err != nil && err != io.EOF {
		return 0, err
	}
	if entry == nil {
		return unknownMs, nil
	}
	return decodeTime(entry).ms, nil
}

// learnTimes does what sealedMaxMs does for every segment of which the
// checkpoint did not remember it, without holding the lock meanwhile.
func (l *Log) learnTimes() error {
	l.mu.Lock()
	var segs []segment
	for _, s := range l.sealed {
		if !s.hasTime {
			segs = append(segs, s)
		}
	}
	l.mu.Unlock()
	for _, s := range segs {
		ms, err := l.readMaxMs(s)
		if err != nil {
			return err
		}
		l.mu.Lock()
		if i, ok := l.sealedAt(s.base); ok && l.sealed[i].version == s.version {
			l.sealed[i].newestMs, l.sealed[i].hasTime = ms, true
		}
		l.mu.Unlock()
	}
	return nil
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
	for {
		pos, h, err := l.seek(v, from, func(h Header) bool { return h.LastOffset() >= from && h.MaxTimestamp >= ms })
		if err != nil || h == nil {
			return TimeOffset{}, false, err
		}
		found, ok, err := recordAt(v, pos, *h, start, ms)
		if ok || err != nil {
			return found, ok, err
		}
		from = h.LastOffset() + 1 // what is so late of it lies before the log start
	}
}

// recordAt finds the first record of a batch, from offset start on, that is as
// late as ms; there may be none when the batch begins before start. What
// cannot be decompressed, or only to more than is allowed, is not looked
// into: its first record stands for all, so that nothing is skipped.
func recordAt(v *view, pos int64, h Header, start, ms int64) (TimeOffset, bool, error) {
	whole := TimeOffset{Offset: max(start, h.BaseOffset), Ms: h.FirstTimestamp, Epoch: h.LeaderEpoch}
	if h.Attributes&attrLogAppend != 0 {
		whole.Ms = h.MaxTimestamp
		return whole, true, nil
	}
	if h.FirstTimestamp >= ms && h.BaseOffset >= start {
		return whole, true, nil
	}
	if err := verify(v.file, v.seg.logName(), pos, h); err != nil {
		return TimeOffset{}, false, err
	}
	found, ok := whole, false
	src := &diskReader{SectionReader: io.NewSectionReader(v.file, pos+HeaderSize, h.Size()-HeaderSize)}
	r, err := plain(h.Attributes&attrCodec, src)
	if err == nil {
		_, err = eachRecord(r, func(rec recordStart) bool {
			at := h.FirstTimestamp + rec.deltaMs
			if at >= ms && h.BaseOffset+rec.deltaOffset >= start {
				found.Offset, found.Ms, ok = h.BaseOffset+rec.deltaOffset, at, true
			}
			return ok
		})
		r.Close()
	}
	if src.err != nil {
		return TimeOffset{}, false, fmt.Errorf("read %s at %d: %v", v.seg.logName(), pos, src.err)
	}
	if err != nil || !ok && h.BaseOffset >= start {
		return whole, true, nil
	}
	return found, ok, nil
}

// diskReader remembers an error of the disk, which a decompressor would
// report as one of its own.
type diskReader struct {
	*io.SectionReader
	err error
}

func (d *diskReader) Read(p []byte) (int, error) {
	n, err := d.SectionReader.Read(p)
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

// verify reads a stored batch and checks its checksum. A batch that does not
// match is a *CorruptError; another error is the disk's.
func verify(f io.ReaderAt, name string, pos int64, h Header) error {
	sum := crc32.New(castagnoli)
	n, err := copyPieces(sum, io.NewSectionReader(f, pos+crcStart, h.Size()-crcStart))
	if err != nil {
		return fmt.Errorf("read %s at %d: %v", name, pos, err)
	}
	switch {
	case n < h.Size()-crcStart:
		err = fmt.Errorf("%d bytes, %d are missing", h.Size(), h.Size()-crcStart-n)
	case sum.Sum32() != h.CRC:
		err = fmt.Errorf("checksum %08x, header says %08x", sum.Sum32(), h.CRC)
	default:
		return nil
	}
	return &CorruptError{File: name, Pos: pos, Offset: h.BaseOffset, Err: err}
}

// copyPieces is io.Copy by a small buffer.
func copyPieces(sum hash.Hash, r io.Reader) (n int64, err error) {
	buf := make([]byte, 32<<10)
	for {
		k, err := r.Read(buf)
		sum.Write(buf[:k])
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
