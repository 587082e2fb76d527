package share

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// reference is a share partition as KIP-932 tells of it, record by record.
type reference struct {
	start, end int64
	of         map[int64]*one
	now        time.Time
}

type one struct {
	state state
	count int16
	by    *Session
	until time.Time
}

func (m *reference) back(o *one) {
	o.state, o.by = available, nil
	if o.count >= benchLimit {
		o.state = archived
	}
}

func (m *reference) advance() {
	for m.start < m.end {
		o := m.of[m.start]
		if o.state != acknowledged && o.state != archived {
			return
		}
		delete(m.of, m.start)
		m.start++
	}
}

func (m *reference) inFlight() (n int64) {
	for _, o := range m.of {
		if o.state != archived || o.count > 0 {
			n++
		}
	}
	return n
}

func (m *reference) acquire(s *Session, most, locks int64, bs []batch) (got []int64) {
	room := locks - m.inFlight()
	for _, b := range bs {
		for o := b.first; o <= b.last; o++ {
			r := m.of[o]
			switch {
			case r == nil && o < m.end:
			case r == nil && b.skip:
				if o == m.end { // it follows on what is in the window
					m.of[o], m.end = &one{state: archived}, o+1
				}
			case r == nil:
				if o == m.end && room > 0 && len(got) < int(most) {
					m.of[o], m.end = &one{acquired, 1, s, m.now.Add(time.Minute)}, o+1
					got = append(got, o)
					room--
				}
			case r.state != available:
			case b.skip || r.count >= benchLimit:
				r.state = archived
			case len(got) < int(most):
				r.state, r.by, r.until = acquired, s, m.now.Add(time.Minute)
				r.count++
				got = append(got, o)
			}
		}
	}
	m.advance()
	return got
}

func (m *reference) acknowledge(s *Session, acks []Ack) bool {
	for _, a := range acks {
		for o := a.First; o <= a.Last; o++ {
			r := m.of[o]
			switch {
			case o >= m.end:
				return false
			case o < m.start, r.state == archived && r.count == 0:
			case r.state != acquired || r.by != s:
				return false
			}
		}
	}
	for _, a := range acks {
		for o := a.First; o <= a.Last; o++ {
			r := m.of[o]
			if o < m.start || r.state != acquired {
				continue
			}
			switch a.typeOf(o) {
			case Accept:
				r.state, r.by = acknowledged, nil
			case Release:
				m.back(r)
			case Renew:
				r.until = m.now.Add(time.Minute)
			default:
				r.state, r.by = archived, nil
			}
		}
	}
	m.advance()
	return true
}

func (m *reference) giveBack(pick func(*one) bool) {
	for _, r := range m.of {
		if r.state == acquired && pick(r) {
			m.back(r)
		}
	}
	m.advance()
}

func (m *reference) show() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", m.start)
	for o := m.start; o < m.end; o++ {
		r := m.of[o]
		if r.state == archived && r.count == 0 {
			b.WriteString(" -")
			continue
		}
		fmt.Fprintf(&b, " %s%d", map[state]string{available: "a", acquired: "q", acknowledged: "k", archived: "x"}[r.state], r.count)
	}
	return b.String()
}

// TestAgainstReference drives random histories of both and compares.
func TestAgainstReference(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 7))
		b := newBench(t, 3)
		ref := &reference{start: 3, end: 3, of: map[int64]*one{}, now: b.now}
		log := batches(3, sizes(rng)...) // what the log holds; some of it is nobody's
		sessions := []*Session{b.a, b.b}
		var trace []string
		for range 60 {
			s := sessions[rng.IntN(2)]
			what := step(rng, b, ref, s, log)
			trace = append(trace, what+" -> "+b.w.show())
			sound(t, &b.w)
			if got, want := b.w.show(), ref.show(); got != want {
				t.Fatalf("seed %d: %s\ngot  %s\nwant %s", seed, strings.Join(trace, "\n"), got, want)
			}
			if b.w.inFlight() != ref.inFlight() || b.w.end() != ref.end {
				t.Fatalf("seed %d: %d in flight up to %d, want %d up to %d", seed, b.w.inFlight(), b.w.end(), ref.inFlight(), ref.end)
			}
		}
	}
}

func sizes(rng *rand.Rand) (out []int64) {
	for range 30 {
		n := 1 + rng.Int64N(5)
		if rng.IntN(4) == 0 {
			n = -n
		}
		out = append(out, n)
	}
	return out
}

// step does one thing to both.
func step(rng *rand.Rand, b *bench, ref *reference, s *Session, log []batch) string {
	switch k := rng.IntN(20); {
	case k < 8:
		return stepAcquire(rng, b, ref, s, log)
	case k < 15:
		acks := randomAcks(rng, b.w.start, b.w.end())
		err := b.ack(s, acks...)
		valid := checkAcks(acks, true) == nil && ref.acknowledge(s, acks)
		if valid != (err == nil) {
			b.t.Errorf("acknowledge %v: %v, want it taken: %v", acks, err, valid)
		}
		return fmt.Sprint("acknowledge ", acks, err)
	case k < 16:
		b.w.release(s, benchLimit)
		ref.giveBack(func(r *one) bool { return r.by == s })
		return "session ends"
	case k < 18:
		b.now = b.now.Add(time.Duration(rng.IntN(40)) * time.Second)
		ref.now = b.now
		b.w.expire(b.now, benchLimit)
		ref.giveBack(func(r *one) bool { return !r.until.After(ref.now) })
		return "time passes"
	case k < 19:
		to := b.w.start + rng.Int64N(3)
		b.w.trim(to)
		for ; ref.start < to; ref.start++ {
			delete(ref.of, ref.start)
		}
		ref.end = max(ref.end, ref.start)
		ref.advance()
		return fmt.Sprint("trim to ", to)
	}
	w, err := restore(b.w.start, b.w.dump()) // a restart
	if err != nil {
		b.t.Fatal(err)
	}
	b.w = w
	for _, r := range ref.of {
		if r.state == acquired {
			r.state, r.by = available, nil
		}
	}
	return "restart"
}

func stepAcquire(rng *rand.Rand, b *bench, ref *reference, s *Session, log []batch) string {
	from, ok := b.w.next(20)
	if !ok {
		return "full"
	}
	var read []batch
	few := 1 + rng.IntN(6)
	for _, l := range log {
		if l.last >= from && len(read) < few {
			l.first = max(l.first, from)
			read = append(read, l)
		}
	}
	most := 1 + rng.Int64N(8)
	got := b.w.acquire(read, want{most: most, locks: 20, limit: benchLimit, lock: &lock{s, b.now.Add(time.Minute)}})
	var offsets []int64
	for _, r := range got {
		for o := r.First; o <= r.Last; o++ {
			offsets = append(offsets, o)
		}
	}
	if want := ref.acquire(s, most, 20, read); fmt.Sprint(want) != fmt.Sprint(offsets) {
		b.t.Errorf("acquired %v, want %v", offsets, want)
	}
	return fmt.Sprint("acquire ", most, " of ", read, ": ", got)
}

func randomAcks(rng *rand.Rand, start, end int64) (acks []Ack) {
	at := start - 2 + rng.Int64N(3)
	for range 1 + rng.IntN(3) {
		a := Ack{First: at, Last: at + rng.Int64N(4)}
		n := 1
		if rng.IntN(2) == 0 {
			n = int(a.Last - a.First + 1)
		}
		for range n {
			a.Types = append(a.Types, int8(rng.IntN(5)))
		}
		if a.Last < end || rng.IntN(10) == 0 {
			acks = append(acks, a)
		}
		at = a.Last + 1 + rng.Int64N(3)
	}
	return acks
}
