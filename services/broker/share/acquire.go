package share

// Range is consecutive records that were acquired, and how often each was
// delivered by now.
type Range struct {
	First, Last int64
	Count       int16
}

// batch is consecutive offsets of a log. Nobody is given those to skip: there
// are no records, or not for consumers.
type batch struct {
	span
	skip bool
}

// want is what a member asks a window for.
type want struct {
	most  int64 // records
	whole bool  // up to the end of a batch, though that is more
	locks int64 // records that may be in flight
	limit int16 // deliveries of a record
	lock  *lock
}

// acquiring is one acquisition.
type acquiring struct {
	want
	left int64 // of most
	open int   // the batch that may be had whole, or -1
	got  []Range
}

// acquire takes records of the log's next batches for a member, as many as it
// wants and may have: first those in the window, which must be available, then
// those behind it. Batches are sorted and leave nothing out.
func (w *window) acquire(batches []batch, q want) []Range {
	a := &acquiring{want: q, left: q.most, open: -1}
	spans := make([]span, len(batches))
	for i, b := range batches {
		spans[i] = b.span
	}
	end, room := w.end(), q.locks-w.inFlight()
	w.edit(spans, func(i int, r run, put func(run)) {
		switch {
		case r.state != available:
			put(r)
		case batches[i].skip || r.count >= q.limit:
			put(r.in(archived))
		default:
			a.take(i, r, r.len(), put)
		}
	})
	behind := runList{w.runs}
	for i, b := range batches {
		if b.last < end {
			continue
		}
		r := run{first: max(b.first, end), last: b.last, state: available}
		if b.skip {
			behind.put(r.in(archived))
			continue
		}
		took := a.take(i, r, room, func(r run) {
			if r.count > 0 {
				behind.put(r)
			}
		})
		if room -= took; took < r.len() {
			break
		}
	}
	w.runs = behind.runs
	w.advance()
	return a.got
}

// take acquires the first part of an available run in batch i, at most room
// records, puts that and what is left, and returns how many it took.
func (a *acquiring) take(i int, r run, room int64, put func(run)) int64 {
	n := max(0, min(r.len(), room))
	if a.whole && (a.left > 0 || a.open == i) {
		a.open = i
	} else {
		n = min(n, max(a.left, 0))
	}
	if n > 0 {
		got := r
		got.last, got.state, got.lock = r.first+n-1, acquired, a.lock
		got.count++
		put(got)
		a.note(got)
		a.left -= n
		r.first += n
	}
	if r.first <= r.last {
		put(r)
	}
	return n
}

func (a *acquiring) note(r run) {
	if n := len(a.got); n > 0 {
		if last := &a.got[n-1]; last.Last+1 == r.first && last.Count == r.count {
			last.Last = r.last
			return
		}
	}
	a.got = append(a.got, Range{r.first, r.last, r.count})
}
