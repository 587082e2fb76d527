package share

import "github.com/twmb/franz-go/pkg/kerr"

// Types of acknowledgement, numbered as in the protocol.
const (
	Gap     = 0 // there is no such record
	Accept  = 1
	Release = 2 // to be delivered again
	Reject  = 3
	Renew   = 4 // keep it for longer (KIP-1222)
)

// Ack is what a member says of the records from First to Last: one type for
// all, or one for each.
type Ack struct {
	First, Last int64
	Types       []int8
}

func (a Ack) typeOf(offset int64) int8 {
	if len(a.Types) == 1 {
		return a.Types[0]
	}
	return a.Types[offset-a.First]
}

// checkAcks says what is wrong with acknowledgements by themselves.
func checkAcks(acks []Ack, renews bool) error {
	most, prev := int8(Reject), int64(-1)
	if renews {
		most = Renew
	}
	for _, a := range acks {
		if a.First <= prev || a.Last < a.First || len(a.Types) == 0 || len(a.Types) > 1 && int64(len(a.Types)) != a.Last-a.First+1 {
			return kerr.InvalidRequest
		}
		for _, t := range a.Types {
			if t < Gap || t > most {
				return kerr.InvalidRequest
			}
		}
		prev = a.Last
	}
	return nil
}

// acknowledge does what a session says of records that it has acquired, all of
// it or nothing. What is done with already is passed over. kept is the lock of
// those that it renews. The acks have passed checkAcks.
func (w *window) acknowledge(acks []Ack, by *Session, limit int16, kept *lock) error {
	spans := make([]span, len(acks))
	for i, a := range acks {
		if spans[i] = (span{a.First, a.Last}); a.Last >= w.end() {
			return kerr.InvalidRequest
		}
	}
	if !w.holds(spans, by) {
		return kerr.InvalidRecordState
	}
	w.edit(spans, func(i int, r run, put func(run)) {
		if r.gap() {
			put(r)
			return
		}
		for a := acks[i]; r.first <= r.last; {
			part := r
			t := a.typeOf(r.first)
			if len(a.Types) > 1 {
				for part.last = r.first; part.last < r.last && a.typeOf(part.last+1) == t; part.last++ {
				}
			}
			put(part.said(t, limit, kept))
			r.first = part.last + 1
		}
	})
	return nil
}

// holds reports whether all of the window that lies in spans was acquired by a
// session; gaps are nobody's.
func (w *window) holds(spans []span, by *Session) bool {
	i := 0
	for _, r := range w.runs {
		for i < len(spans) && spans[i].last < r.first {
			i++
		}
		if i == len(spans) {
			break
		}
		if spans[i].first <= r.last && !r.gap() && (r.lock == nil || r.lock.by != by) {
			return false
		}
	}
	return true
}

// said is an acquired run after an acknowledgement of a type.
func (r run) said(t int8, limit int16, kept *lock) run {
	switch t {
	case Accept:
		return r.in(acknowledged)
	case Release:
		return r.released(limit)
	case Renew:
		r.lock = kept
		return r
	}
	return r.in(archived)
}
