package share

import (
	"slices"
	"time"
)

// state of a record that was delivered at least once, numbered as Kafka keeps
// it. One that never was is behind the window.
type state int8

const (
	available    state = 0 // released, or its lock expired
	acquired     state = 1 // by a member that has not said yet
	acknowledged state = 2
	archived     state = 4 // rejected, delivered too often, or not there
)

// run is consecutive offsets in one state.
type run struct {
	first, last int64
	state       state
	count       int16 // deliveries; 0 for what nobody can be given: see gap
	lock        *lock // of acquired ones
}

// lock is held by a session on what it acquired at once.
type lock struct {
	by    *Session
	until time.Time
}

func (r run) len() int64 { return r.last - r.first + 1 }

func (r run) done() bool { return r.state == acknowledged || r.state == archived }

// gap reports whether nobody ever had the run: control batches, aborted
// transactions, and what compaction took.
func (r run) gap() bool { return r.state == archived && r.count == 0 }

// released is a run that is to be delivered again, unless it was as often as
// limit allows.
func (r run) released(limit int16) run {
	r.lock, r.state = nil, available
	if r.count >= limit {
		r.state = archived
	}
	return r
}

func (r run) in(s state) run {
	r.lock, r.state = nil, s
	return r
}

// window is the records of a partition that a share group has begun with and
// is not done with: the share partition of KIP-932, as a machine that knows
// neither a log nor a clock. Not safe for concurrent use.
type window struct {
	start int64 // the share partition's start offset (SPSO)
	// runs begin at start, leave nothing out, and differ from their
	// neighbours. The first is not done.
	runs []run
}

// end is the first offset that was never looked at (SPEO + 1).
func (w *window) end() int64 {
	if n := len(w.runs); n > 0 {
		return w.runs[n-1].last + 1
	}
	return w.start
}

// inFlight is how many records the window holds.
func (w *window) inFlight() (n int64) {
	for _, r := range w.runs {
		if !r.gap() {
			n += r.len()
		}
	}
	return n
}

// completed is how many offsets of the window are done with.
func (w *window) completed() (n int64) {
	for _, r := range w.runs {
		if r.done() {
			n += r.len()
		}
	}
	return n
}

// next is the first offset that could be acquired while at most locks records
// may be in flight; false when there is none.
func (w *window) next(locks int64) (int64, bool) {
	for _, r := range w.runs {
		if r.state == available {
			return r.first, true
		}
	}
	return w.end(), w.inFlight() < locks
}

// expiry is when the first lock ends; zero when there is none.
func (w *window) expiry() (first time.Time) {
	for _, r := range w.runs {
		if r.lock != nil && (first.IsZero() || r.lock.until.Before(first)) {
			first = r.lock.until
		}
	}
	return first
}

type span struct{ first, last int64 }

// edit hands each part of a run that lies in a span to change, with the number
// of the span; change puts what becomes of it. Spans are sorted and apart.
func (w *window) edit(spans []span, change func(i int, r run, put func(run))) {
	var out runList
	out.runs = make([]run, 0, len(w.runs)+2)
	i := 0
	for _, r := range w.runs {
		for r.first <= r.last {
			for i < len(spans) && spans[i].last < r.first {
				i++
			}
			if i == len(spans) || spans[i].first > r.last {
				out.put(r)
				break
			}
			if at := spans[i].first; at > r.first {
				before := r
				before.last = at - 1
				out.put(before)
				r.first = at
			}
			part := r
			part.last = min(r.last, spans[i].last)
			change(i, part, out.put)
			r.first = part.last + 1
		}
	}
	w.runs = out.runs
	w.advance()
}

// runList joins what is alike.
type runList struct{ runs []run }

func (l *runList) put(r run) {
	if n := len(l.runs); n > 0 {
		last := &l.runs[n-1]
		if last.last+1 == r.first && last.state == r.state && last.count == r.count && last.lock == r.lock {
			last.last = r.last
			return
		}
	}
	l.runs = append(l.runs, r)
}

// advance moves the start over what is done with.
func (w *window) advance() {
	n := 0
	for n < len(w.runs) && w.runs[n].done() {
		w.start = w.runs[n].last + 1
		n++
	}
	switch w.runs = w.runs[n:]; {
	case len(w.runs) == 0:
		w.runs = nil
	case n > 0:
		w.runs = slices.Clone(w.runs)
	}
}

// each edits the runs that pick says.
func (w *window) each(pick func(run) bool, to func(run) run) (changed bool) {
	w.edit([]span{{w.start, w.end()}}, func(_ int, r run, put func(run)) {
		if pick(r) {
			r, changed = to(r), true
		}
		put(r)
	})
	return changed
}

// release gives back what a session has acquired.
func (w *window) release(by *Session, limit int16) (changed bool) {
	return w.each(func(r run) bool { return r.lock != nil && r.lock.by == by },
		func(r run) run { return r.released(limit) })
}

// expire gives back what was acquired for no longer than until now.
func (w *window) expire(now time.Time, limit int16) (changed bool) {
	return w.each(func(r run) bool { return r.lock != nil && !r.lock.until.After(now) },
		func(r run) run { return r.released(limit) })
}

// trim forgets what lies before the log's start.
func (w *window) trim(start int64) (changed bool) {
	if start <= w.start {
		return false
	}
	n := 0
	for n < len(w.runs) && w.runs[n].last < start {
		n++
	}
	w.start, w.runs = start, slices.Clone(w.runs[n:])
	if len(w.runs) > 0 {
		w.runs[0].first = start
	}
	w.advance()
	return true
}

// cut forgets what lies behind the log's end: the log lost its tail in a power
// cut, and other records will have those offsets.
func (w *window) cut(end int64) (changed bool) {
	if end >= w.end() {
		return false
	}
	n := len(w.runs)
	for n > 0 && w.runs[n-1].first >= end {
		n--
	}
	w.runs = w.runs[:n]
	if n > 0 {
		w.runs[n-1].last = min(w.runs[n-1].last, end-1)
	}
	w.start = min(w.start, end)
	return true
}
