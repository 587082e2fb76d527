package store

import (
	"fmt"
	"io"
	"sort"
)

// OffsetForMaxTimestamp returns the first of the readable records that have
// the largest timestamp; false when there is none.
func (l *Log) OffsetForMaxTimestamp() (TimeOffset, bool, error) {
	for {
		newest, err := l.newestMs()
		if err != nil || newest < 0 {
			return TimeOffset{}, false, err
		}
		found, ok, err := l.OffsetForTime(newest)
		if ok || err != nil {
			return found, ok, err
		}
		// A time index has promised too much.
		if again, err := l.correctNewest(newest); !again || err != nil {
			return TimeOffset{}, false, err
		}
	}
}

// newestMs is the largest timestamp of the readable records, as far as is
// known without reading them.
func (l *Log) newestMs() (int64, error) {
	newest := int64(noTimestamp)
	for base, more := int64(-1), true; more; {
		var ms int64
		var v *view
		var err error
		if base, ms, v, more, err = l.newestAfter(base); err != nil {
			return 0, err
		}
		if v != nil {
			ms, err = l.newestIn(v)
			v.file.release()
			if err == errReplaced {
				base, newest, more = -1, noTimestamp, true
				continue
			}
			if err != nil {
				return 0, err
			}
		}
		newest = max(newest, ms)
	}
	return newest, nil
}

// correctNewest reads the sealed segments that are thought to have records as
// late as ms, and reports whether some have not.
func (l *Log) correctNewest(ms int64) (wrong bool, err error) {
	l.mu.Lock()
	var segs []segment
	for _, s := range l.sealed {
		if s.hasTime && s.newestMs >= ms && s.newestMs < unknownMs {
			segs = append(segs, s)
		}
	}
	l.mu.Unlock()
	for _, s := range segs {
		v, err := l.viewOf(s)
		if err == ErrClosed {
			continue // gone
		}
		if err != nil {
			return false, err
		}
		newest, err := l.newestIn(v)
		v.file.release()
		if err == errReplaced {
			continue
		}
		if err != nil {
			return false, err
		}
		if newest < s.newestMs {
			wrong = true
			l.setNewest(s, newest)
		}
	}
	return wrong, nil
}

// newestAfter returns the base of the first segment that begins behind base,
// and its largest timestamp or, where that is not known exactly, a view to
// look it up. The active segment is the last.
func (l *Log) newestAfter(base int64) (next, ms int64, v *view, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, 0, nil, false, ErrClosed
	}
	i := sort.Search(len(l.sealed), func(i int) bool { return l.sealed[i].base > base })
	if i == len(l.sealed) {
		return l.act.base, noTimestamp, l.activeView(), false, nil
	}
	next = l.sealed[i].base
	if ms, err = l.sealedMaxMs(i); err != nil {
		return 0, 0, nil, false, err
	}
	if ms == unknownMs || next < l.start {
		v, err = l.sealedView(i)
	}
	return next, ms, v, true, err
}

// newestIn reads headers for the largest timestamp in a segment. The index
// of the active segment knows of batches that cannot be read yet: its newest
// entry that can is a hint only.
func (l *Log) newestIn(v *view) (int64, error) {
	start, _ := l.Bounds()
	from := max(start, v.seg.base)
	if from > v.seg.base || !v.active {
		return l.newestFrom(v, from, from)
	}
	for i := len(v.times) - 1; i >= 0; i-- {
		ms, err := l.newestFrom(v, v.seg.base+int64(v.times[i].rel), from)
		if err != nil || ms >= v.times[i].ms {
			return ms, err
		}
	}
	return l.newestFrom(v, from, from)
}

// newestFrom looks at the batches from the one that holds offset on, and
// counts the records from start on.
func (l *Log) newestFrom(v *view, offset, start int64) (int64, error) {
	newest, cut := int64(noTimestamp), false
	_, _, err := l.seek(v, offset, func(h Header) bool {
		switch {
		case h.BaseOffset >= start:
			newest = max(newest, h.MaxTimestamp)
		case h.LastOffset() >= start:
			cut = true
		}
		return false
	})
	if err != nil || !cut {
		return newest, err
	}
	pos, h, err := l.seek(v, start, func(h Header) bool { return h.LastOffset() >= start })
	if err != nil || h == nil {
		return newest, err
	}
	ms, err := newestOf(v, pos, *h, start)
	return max(newest, ms), err
}

// newestOf is the largest timestamp of a batch's records from offset start on.
func newestOf(v *view, pos int64, h Header, start int64) (int64, error) {
	if h.Attributes&attrLogAppend != 0 {
		return h.MaxTimestamp, nil
	}
	newest := int64(noTimestamp)
	src := &diskReader{SectionReader: io.NewSectionReader(v.file, pos+HeaderSize, h.Size()-HeaderSize)}
	r, err := plain(h.Attributes&attrCodec, src)
	if err == nil {
		_, err = eachRecord(r, func(rec recordStart) bool {
			if h.BaseOffset+rec.deltaOffset >= start {
				newest = max(newest, h.FirstTimestamp+rec.deltaMs)
			}
			return false
		})
		r.Close()
	}
	switch {
	case src.err != nil:
		return 0, fmt.Errorf("read %s at %d: %v", v.seg.logName(), pos, src.err)
	case err != nil:
		return h.MaxTimestamp, nil // as recordAt takes it
	}
	return newest, nil
}
