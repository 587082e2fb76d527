package store

import "sort"

// OffsetForMaxTimestamp returns the first of the readable records that have
// the largest timestamp; false when there is none.
func (l *Log) OffsetForMaxTimestamp() (TimeOffset, bool, error) {
	newest := int64(noTimestamp)
	for base, more := int64(-1), true; more; {
		var ms int64
		var v *view
		var err error
		if base, ms, v, more, err = l.newestAfter(base); err != nil {
			return TimeOffset{}, false, err
		}
		if v != nil {
			ms, err = l.newestIn(v)
			v.file.release()
			if err == errReplaced {
				base, newest, more = -1, noTimestamp, true
				continue
			}
			if err != nil {
				return TimeOffset{}, false, err
			}
		}
		newest = max(newest, ms)
	}
	if newest < 0 {
		return TimeOffset{}, false, nil
	}
	return l.OffsetForTime(newest)
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
// counts those that have records from start on.
func (l *Log) newestFrom(v *view, offset, start int64) (int64, error) {
	newest := int64(noTimestamp)
	_, _, err := l.seek(v, offset, func(h Header) bool {
		if h.LastOffset() >= start {
			newest = max(newest, h.MaxTimestamp)
		}
		return false
	})
	return newest, err
}
