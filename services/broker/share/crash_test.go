package share

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

// fate is what a group has said of a record.
type fate int

const (
	pending fate = iota // nothing, or that it is to be delivered again
	unsure              // that it is done with, and the power was cut before the answer
	settled             // that, answered
)

// life is a group's history over power cuts: what was produced, and what it has
// said.
type life struct {
	*house
	rng   *rand.Rand
	trace []string

	mu    sync.Mutex
	after *vfs.Crashable // what the power cut has left; nil: there was none
	left  int            // operations on the disk until it

	end   int64 // of what is surely in the log
	fates map[int64]fate
	count map[int64]int16 // deliveries as last told
}

// TestPowerCuts: whatever the instant of a power cut, no record is lost to the
// group, and none comes again that it was told is done with.
func TestPowerCuts(t *testing.T) {
	for seed := range uint64(60) {
		inHouse(t, seed, func(h *house) {
			h.set("share.auto.offset.reset", "earliest")
			h.set("share.delivery.count.limit", "100")
			l := &life{house: h, rng: rand.New(rand.NewPCG(seed, 3)), fates: map[int64]fate{}, count: map[int64]int16{}}
			for range 6 {
				l.live()
				l.check()
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// live goes on until the power is cut, and starts anew.
func (l *life) live() {
	l.left = 5 + l.rng.IntN(60)
	l.disk.SetHook(func(op vfs.Op, _ string) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.after == nil && op != vfs.OpRead && op != vfs.OpOpen {
			if l.left--; l.left <= 0 {
				l.after = l.disk.Crash()
			}
		}
		if l.after != nil {
			return vfs.ErrCrashed
		}
		return nil
	})
	sessions := []*Session{l.session("a"), l.session("b")}
	held := map[*Session][]Range{}
	for n := 0; l.step(sessions[l.rng.IntN(2)], held); n++ {
		if n > 2000 {
			l.t.Fatal("the power was never cut")
		}
	}
	l.close()
	l.disk, l.after = l.after, nil
	l.open()
}

// step does one thing; false when the power was cut.
func (l *life) step(s *Session, held map[*Session][]Range) bool {
	var err error
	switch k := l.rng.IntN(10); {
	case k < 3:
		n := 1 + l.rng.IntN(4)
		if err = l.append(n, 0); err == nil {
			l.end = l.log(0).Stats().End
		}
	case k < 6:
		var got []Range
		got, err = l.take(s, 1+l.rng.Int64N(5))
		if err == nil {
			l.delivered(got)
			held[s] = append(held[s], got...)
		}
	case k < 9 && len(held[s]) > 0:
		err = l.say(s, held[s][0])
		held[s] = held[s][1:]
	case k == 9:
		time.Sleep(time.Minute) // all locks run out
		clear(held)
	}
	return err == nil
}

// say acknowledges a range in one of three ways.
func (l *life) say(s *Session, r Range) error {
	t := []int8{Accept, Accept, Release, Reject}[l.rng.IntN(4)]
	l.trace = append(l.trace, fmt.Sprint("say ", t, " of ", r))
	done := func(f fate) {
		for o := r.First; o <= r.Last && t != Release; o++ {
			l.fates[o] = f
		}
	}
	done(unsure)
	err := l.ack(s, all(r.First, r.Last, t))
	if err == nil {
		done(settled)
	}
	return err
}

// delivered checks that a delivery is due.
func (l *life) delivered(got []Range) {
	for _, r := range got {
		l.trace = append(l.trace, fmt.Sprint("got ", r))
		for o := r.First; o <= r.Last; o++ {
			if l.fates[o] == settled {
				l.t.Fatalf("%v\noffset %d is delivered, and was done with", l.trace, o)
			}
			l.fates[o], l.count[o] = pending, r.Count
		}
	}
}

// check takes all there is: what was not delivered is done with, or may be.
func (l *life) check() {
	l.trace = append(l.trace, "power cut")
	s := l.session("checks")
	got, err := l.take(s, 1000)
	l.must(err)
	l.delivered(got)
	there := map[int64]bool{}
	for _, r := range got {
		for o := r.First; o <= r.Last; o++ {
			there[o] = true
		}
	}
	for o := range l.end {
		if !there[o] && l.fates[o] == pending {
			l.t.Fatalf("%v\noffset %d is lost to the group", l.trace, o)
		}
	}
	s.Close()
	l.must(<-l.m.Settled())
}
