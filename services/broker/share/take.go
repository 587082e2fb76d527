package share

import (
	"errors"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
)

// Want is what a member asks of one partition.
type Want struct {
	Records int64 // at most
	Bytes   int64 // at most
	// One says to take a batch though it alone is longer than Bytes.
	One bool
	// Whole says to go on to the end of a batch though that is more records.
	Whole bool
}

// Taken are records that a member has acquired. Release the records when done.
type Taken struct {
	// Records are whole batches that hold what was acquired, and may hold more.
	Records *store.Slice
	Ranges  []Range
	// More says that there may be more to be had.
	More bool
}

// mostTries bounds how many runs of batches without a record for anybody are
// gone through at once.
const mostTries = 100

// take acquires records for a session.
func (p *partition) take(s *Session, q Want) (Taken, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Taken{}, nil
	}
	if err := p.begin(); err != nil {
		return Taken{}, err
	}
	limit, now := p.m.deliveries(p.group.id), time.Now()
	if p.window.expire(now, limit) {
		p.changed(true)
	}
	ask := want{
		most: q.Records, whole: q.Whole, limit: limit,
		lock: &lock{s, now.Add(p.m.LockDuration(p.group.id))},
	}
	for range mostTries {
		// What others hold changes meanwhile, and so may the limit.
		ask.locks = max(p.m.locks(p.group.id), 1)
		start, _ := p.log.Bounds()
		if p.window.trim(start) {
			p.changed(true)
		}
		got, again, err := p.takeOnce(q, ask)
		if len(got.Ranges) > 0 && !s.hold(p) {
			got.Records.Release()
			p.window.release(s, limit)
			p.changed(true)
			return Taken{}, nil
		}
		if !again || err != nil {
			return got, err
		}
	}
	return Taken{More: true}, nil
}

// peek is how many bytes of records take would have to choose from, at most
// most of them.
func (p *partition) peek(most int64) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, nil
	}
	if err := p.begin(); err != nil {
		return 0, err
	}
	from, ok := p.window.next(p.m.locks(p.group.id))
	if start, _ := p.log.Bounds(); !ok || from < start {
		return 0, nil
	}
	records, err := p.read(from, most, true)
	defer records.Release()
	return records.Len(), err
}

// read reads what a member of the group may have from an offset on; nil when
// there is nothing.
func (p *partition) read(from, most int64, one bool) (*store.Slice, error) {
	if p.m.committed(p.group.id) {
		return p.log.ReadCommitted(from, most, one)
	}
	return p.log.Read(from, most, one)
}

// takeOnce acquires of what one read of the log returns; again says that there
// was nothing for anybody in it.
func (p *partition) takeOnce(q Want, ask want) (got Taken, again bool, err error) {
	from, ok := p.window.next(ask.locks)
	if !ok || q.Records <= 0 {
		return Taken{}, false, nil
	}
	records, err := p.read(from, q.Bytes, q.One)
	switch {
	case errors.Is(err, store.ErrOutOfRange):
		start, _ := p.log.Bounds()
		return Taken{}, start > from, nil // retention has just deleted it
	case err != nil:
		return Taken{}, false, err
	case records == nil:
		return Taken{More: p.readable(from)}, false, nil
	}
	batches, ends, err := p.batches(records, from, max(p.window.end(), from)+min(q.Records, ask.locks))
	if err != nil {
		records.Release()
		return Taken{}, false, err
	}
	got.Ranges = p.window.acquire(batches, ask)
	p.changed(false)
	if len(got.Ranges) == 0 {
		records.Release()
		return Taken{}, len(batches) > 0, nil
	}
	trim(records, batches, ends, got.Ranges)
	got.Records, got.More = records, true
	return got, false, nil
}

// trim leaves of a slice the batches from the first record that was acquired
// to the last.
func trim(s *store.Slice, batches []batch, ends []int64, ranges []Range) {
	first, last := ranges[0].First, ranges[len(ranges)-1].Last
	begin := int64(0)
	for i, b := range batches {
		if b.last < first {
			begin = ends[i]
		}
		if b.last >= last {
			s.Cut(ends[i])
			break
		}
	}
	s.Skip(begin)
}

// readable reports whether there are records at an offset.
func (p *partition) readable(offset int64) bool {
	_, stable, hw := p.log.Bounds3()
	if p.m.committed(p.group.id) {
		hw = stable
	}
	return offset < hw
}

// batches are the whole batches of a slice that was read from an offset, with
// the gaps between them, up to another; and where each ends in the slice.
func (p *partition) batches(s *store.Slice, from, to int64) (out []batch, ends []int64, err error) {
	var headers []store.Header // of out; of gaps, zero
	next := from
	put := func(last, end int64, h store.Header) {
		out, ends, headers = append(out, batch{span{next, last}, h.Control()}), append(ends, end), append(headers, h)
		next = last + 1
	}
	err = s.Batches(func(off int64, h store.Header) bool {
		if off+h.Size() > s.Len() {
			return false
		}
		if h.BaseOffset > next {
			put(h.BaseOffset-1, off, store.Header{})
			out[len(out)-1].skip = true
		}
		put(h.LastOffset(), off+h.Size(), h)
		return next < to
	})
	if err != nil || len(ends) == 0 || !p.m.committed(p.group.id) {
		return out, ends, err
	}
	s.Cut(ends[len(ends)-1])
	aborted, err := p.log.AbortedIn(s, from)
	for _, t := range aborted {
		for i, h := range headers {
			if h.Transactional() && h.ProducerID == t.ProducerID && t.FirstOffset <= h.BaseOffset && h.BaseOffset <= t.LastOffset {
				out[i].skip = true
			}
		}
	}
	return out, ends, err
}
