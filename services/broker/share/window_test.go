package share

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
)

// show writes a window offset by offset: a letter for the state (a available,
// q acquired, k acknowledged, x archived, or - for what is nobody's) and the
// number of deliveries.
func (w *window) show() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", w.start)
	for _, r := range w.runs {
		for range r.len() {
			if r.gap() {
				b.WriteString(" -")
				continue
			}
			fmt.Fprintf(&b, " %s%d", map[state]string{available: "a", acquired: "q", acknowledged: "k", archived: "x"}[r.state], r.count)
		}
	}
	return b.String()
}

// bench is a window with a clock of its own and two sessions.
type bench struct {
	t    *testing.T
	w    window
	a, b *Session
	now  time.Time
}

func newBench(t *testing.T, start int64) *bench {
	return &bench{t: t, w: window{start: start}, a: &Session{}, b: &Session{}, now: time.Unix(1000, 0)}
}

const benchLimit = 3

// batches are numbers of offsets, one batch after another from the first
// offset on; negative ones are nobody's.
func batches(first int64, sizes ...int64) (out []batch) {
	for _, n := range sizes {
		skip := n < 0
		n = max(n, -n)
		out = append(out, batch{span{first, first + n - 1}, skip})
		first += n
	}
	return out
}

// take acquires for a session, for a minute.
func (b *bench) take(s *Session, most int64, whole bool, bs []batch) string {
	got := b.w.acquire(bs, want{most: most, whole: whole, locks: 20, limit: benchLimit, lock: &lock{s, b.now.Add(time.Minute)}})
	return strings.Trim(fmt.Sprint(got), "[]")
}

func (b *bench) ack(s *Session, acks ...Ack) error {
	if err := checkAcks(acks, true); err != nil {
		return err
	}
	return b.w.acknowledge(acks, s, benchLimit, &lock{s, b.now.Add(time.Minute)})
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (b *bench) is(want string) {
	b.t.Helper()
	b.want("window", b.w.show(), want)
}

func all(first, last int64, t int8) Ack { return Ack{first, last, []int8{t}} }

func TestAcquire(t *testing.T) {
	for name, tt := range map[string]struct {
		most   int64
		whole  bool
		read   []batch
		got    string
		window string
	}{
		"all of it":              {10, false, batches(5, 3), "{5 7 1}", "5: q1 q1 q1"},
		"a part of a batch":      {2, false, batches(5, 3), "{5 6 1}", "5: q1 q1"},
		"to the batch's end":     {2, true, batches(5, 3, 3), "{5 7 1}", "5: q1 q1 q1"},
		"two batches":            {5, false, batches(5, 3, 3), "{5 9 1}", "5: q1 q1 q1 q1 q1"},
		"to the second's end":    {4, true, batches(5, 3, 3), "{5 10 1}", "5: q1 q1 q1 q1 q1 q1"},
		"over a gap":             {10, false, batches(5, 2, -2, 1), "{5 6 1} {9 9 1}", "5: q1 q1 - - q1"},
		"a gap in front":         {10, false, batches(5, -2, 2), "{7 8 1}", "7: q1 q1"},
		"nothing but gaps":       {10, false, batches(5, -2, -3), "", "10:"},
		"no more than allowed":   {30, false, batches(5, 30), "{5 24 1}", "5:" + strings.Repeat(" q1", 20)},
		"not even whole":         {1, true, batches(5, 30), "{5 24 1}", "5:" + strings.Repeat(" q1", 20)},
		"gaps are not in flight": {30, false, batches(5, 1, -100, 30), "{5 5 1} {106 124 1}", "5: q1" + strings.Repeat(" -", 100) + strings.Repeat(" q1", 19)},
	} {
		b := newBench(t, 5)
		b.want(name, b.take(b.a, tt.most, tt.whole, tt.read), tt.got)
		b.want(name, b.w.show(), tt.window)
	}
}

// TestRedelivery: what is released goes first, to anybody, and counts.
func TestRedelivery(t *testing.T) {
	b := newBench(t, 0)
	b.take(b.a, 10, false, batches(0, 6))
	if err := b.ack(b.a, all(1, 2, Release), all(4, 4, Accept)); err != nil {
		t.Fatal(err)
	}
	b.is("0: q1 a1 a1 q1 k1 q1")
	if at, ok := b.w.next(20); at != 1 || !ok {
		t.Errorf("next is %d, %v, want 1", at, ok)
	}
	// Read from 1 on; the batch began before.
	b.want("another member", b.take(b.b, 10, false, batches(1, 5, 2)), "{1 2 2} {6 7 1}")
	b.is("0: q1 q2 q2 q1 k1 q1 q1 q1")
	if err := b.ack(b.a, all(0, 0, Accept)); err != nil {
		t.Fatal(err)
	}
	b.is("1: q2 q2 q1 k1 q1 q1 q1")
}

// TestCompactedWhileReleased: records that are to be delivered again and are
// not there any more hold nothing up.
func TestCompactedWhileReleased(t *testing.T) {
	b := newBench(t, 0)
	b.take(b.a, 10, false, batches(0, 6))
	b.ack(b.a, all(0, 3, Release))
	b.want("the log has a gap now", b.take(b.a, 10, false, batches(0, -3, 3)), "{3 3 2}")
	b.is("3: q2 q1 q1")
}

func TestAcknowledge(t *testing.T) {
	for name, tt := range map[string]struct {
		acks   []Ack
		err    error
		window string
	}{
		"accept all":               {[]Ack{all(0, 5, Accept)}, nil, "6:"},
		"accept the middle":        {[]Ack{all(2, 3, Accept)}, nil, "0: q1 q1 k1 k1 q1 q1"},
		"reject the first":         {[]Ack{all(0, 1, Reject)}, nil, "2: q1 q1 q1 q1"},
		"gap":                      {[]Ack{all(0, 1, Gap)}, nil, "2: q1 q1 q1 q1"},
		"each for itself":          {[]Ack{{0, 5, []int8{1, 1, 2, 3, 1, 2}}}, nil, "2: a1 x1 k1 a1"},
		"several":                  {[]Ack{all(0, 0, Accept), all(2, 2, Release), all(4, 5, Accept)}, nil, "1: q1 a1 q1 k1 k1"},
		"another's":                {[]Ack{all(0, 0, Accept), all(6, 7, Accept)}, kerr.InvalidRecordState, ""},
		"behind the end":           {[]Ack{all(0, 8, Accept)}, kerr.InvalidRequest, ""},
		"backwards":                {[]Ack{all(3, 2, Accept)}, kerr.InvalidRequest, ""},
		"out of order":             {[]Ack{all(3, 3, Accept), all(1, 1, Accept)}, kerr.InvalidRequest, ""},
		"twice":                    {[]Ack{all(0, 3, Accept), all(3, 4, Accept)}, kerr.InvalidRequest, ""},
		"too few types":            {[]Ack{{0, 3, []int8{1, 1}}}, kerr.InvalidRequest, ""},
		"no type":                  {[]Ack{{0, 3, nil}}, kerr.InvalidRequest, ""},
		"a type that there is not": {[]Ack{all(0, 3, 5)}, kerr.InvalidRequest, ""},
	} {
		b := newBench(t, 0)
		b.take(b.a, 10, false, batches(0, 6))
		b.take(b.b, 10, false, batches(6, 2))
		before := b.w.show()
		err := b.ack(b.a, tt.acks...)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: got %v, want %v", name, err, tt.err)
		}
		want := before
		if tt.err == nil {
			want = strings.TrimSuffix(tt.window, ":") // the other's two are behind
			if !strings.HasSuffix(tt.window, ":") {
				want += " q1 q1"
			} else {
				want += ": q1 q1"
			}
		}
		b.want(name, b.w.show(), want)
	}
}

// TestAcknowledgeAgain: what is done with is passed over where the start has
// moved on, and refused where it has not.
func TestAcknowledgeAgain(t *testing.T) {
	b := newBench(t, 0)
	b.take(b.a, 10, false, batches(0, 6))
	b.ack(b.a, all(0, 1, Accept), all(4, 4, Accept))
	if err := b.ack(b.a, all(0, 2, Accept)); err != nil {
		t.Errorf("over the start: %v", err)
	}
	if err := b.ack(b.a, all(4, 4, Accept)); !errors.Is(err, kerr.InvalidRecordState) {
		t.Errorf("again: %v", err)
	}
	b.is("3: q1 k1 q1")
}

// TestDeliveryLimit: a record is delivered three times here, however it comes
// back, and then no more.
func TestDeliveryLimit(t *testing.T) {
	for name, back := range map[string]func(*bench){
		"released":          func(b *bench) { b.ack(b.a, all(0, 0, Release)) },
		"session ends":      func(b *bench) { b.w.release(b.a, benchLimit) },
		"lock runs out":     func(b *bench) { b.now = b.now.Add(time.Minute); b.w.expire(b.now, benchLimit) },
		"limit was lowered": func(b *bench) { b.w.release(b.a, benchLimit+1) },
	} {
		b := newBench(t, 0)
		for n := range benchLimit {
			b.want(name, b.take(b.a, 1, false, batches(0, 1)), fmt.Sprintf("{0 0 %d}", n+1))
			back(b)
		}
		b.want(name, b.take(b.a, 1, false, batches(0, 1, 1)), "{1 1 1}")
		b.is("1: q1")
	}
}

func TestLocks(t *testing.T) {
	b := newBench(t, 0)
	b.take(b.a, 2, false, batches(0, 2))
	b.now = b.now.Add(30 * time.Second)
	b.take(b.b, 2, false, batches(2, 2))
	if err := b.ack(b.a, all(1, 1, Renew)); err != nil {
		t.Fatal(err)
	}
	if got := b.w.expiry(); got != time.Unix(1060, 0) {
		t.Errorf("the first lock ends at %v", got)
	}
	for _, step := range []struct {
		at      int64
		changed bool
		window  string
	}{
		{1059, false, "0: q1 q1 q1 q1"},
		{1060, true, "0: a1 q1 q1 q1"},
		{1089, false, "0: a1 q1 q1 q1"},
		{1090, true, "0: a1 a1 a1 a1"},
	} {
		if got := b.w.expire(time.Unix(step.at, 0), benchLimit); got != step.changed {
			t.Errorf("at %d: changed %v", step.at, got)
		}
		b.is(step.window)
	}
	if !b.w.expiry().IsZero() {
		t.Error("there is no lock any more")
	}
	if err := b.ack(b.a, all(0, 0, Accept)); !errors.Is(err, kerr.InvalidRecordState) {
		t.Errorf("too late: %v", err)
	}
}

func TestSessionEnds(t *testing.T) {
	b := newBench(t, 0)
	b.take(b.a, 2, false, batches(0, 2))
	b.take(b.b, 2, false, batches(2, 2))
	b.ack(b.a, all(0, 0, Accept))
	if !b.w.release(b.a, benchLimit) || b.w.release(b.a, benchLimit) {
		t.Error("want it to release once")
	}
	b.is("1: a1 q1 q1")
}

// TestFull: when too many are in flight, what comes back goes on being
// delivered, and nothing new until the start moves.
func TestFull(t *testing.T) {
	b := newBench(t, 0)
	b.take(b.a, 20, false, batches(0, 30))
	if at, ok := b.w.next(20); ok {
		t.Errorf("next is %d", at)
	}
	b.ack(b.a, all(5, 6, Release), all(10, 19, Accept))
	b.want("again", b.take(b.b, 20, false, batches(5, 25)), "{5 6 2}")
	b.ack(b.a, all(0, 4, Accept))
	b.want("as the start moves", b.take(b.b, 20, false, batches(20, 10)), "{20 24 1}")
}

func TestTrimAndCut(t *testing.T) {
	for name, tt := range map[string]struct {
		do      func(*window) bool
		changed bool
		window  string
	}{
		"log starts before":      {func(w *window) bool { return w.trim(1) }, false, "2: q1 k1 k1 a1 a1"},
		"log starts within":      {func(w *window) bool { return w.trim(3) }, true, "5: a1 a1"},
		"within a run":           {func(w *window) bool { return w.trim(6) }, true, "6: a1"},
		"log starts behind":      {func(w *window) bool { return w.trim(9) }, true, "9:"},
		"log ends behind":        {func(w *window) bool { return w.cut(7) }, false, "2: q1 k1 k1 a1 a1"},
		"log ends within":        {func(w *window) bool { return w.cut(6) }, true, "2: q1 k1 k1 a1"},
		"log ends in the middle": {func(w *window) bool { return w.cut(4) }, true, "2: q1 k1"},
		"log ends before":        {func(w *window) bool { return w.cut(1) }, true, "1:"},
	} {
		b := newBench(t, 2)
		b.take(b.a, 10, false, batches(2, 5))
		b.ack(b.a, all(3, 4, Accept), all(5, 6, Release))
		if got := tt.do(&b.w); got != tt.changed {
			t.Errorf("%s: changed %v", name, got)
		}
		b.want(name, b.w.show(), tt.window)
	}
}

func TestDump(t *testing.T) {
	b := newBench(t, 2)
	b.take(b.a, 10, false, batches(2, 3, -2, 5))
	b.ack(b.a, all(3, 3, Accept), all(7, 7, Release), all(8, 8, Reject))
	b.is("2: q1 k1 q1 - - a1 x1 q1 q1 q1")
	w, err := restore(2, b.w.dump())
	if err != nil {
		t.Fatal(err)
	}
	b.want("restored", w.show(), "2: a1 k1 a1 - - a1 x1 a1 a1 a1")
	if diff := cmp.Diff([]int64{1, 0, 1, 1, 2, 1, 1, 0, 1, 2, 4, 0, 1, 0, 1, 1, 4, 1, 3, 0, 1}, b.w.dump()); diff != "" {
		t.Errorf("dump (-want +got):\n%s", diff)
	}
}

// FuzzRestore: what is read either makes no sense or is a window.
func FuzzRestore(f *testing.F) {
	f.Add(int64(0), []byte{})
	f.Add(int64(7), []byte{1, 0, 1, 2, 4, 0, 3, 2, 2})
	f.Add(int64(1<<62), []byte{255, 0, 1})
	f.Fuzz(func(t *testing.T, start int64, b []byte) {
		runs := make([]int64, len(b))
		for i, v := range b {
			if runs[i] = int64(int8(v)); v == 127 {
				runs[i] = 1<<63 - 1
			}
		}
		w, err := restore(start, runs)
		if err != nil {
			return
		}
		sound(t, &w)
		again, err := restore(w.start, w.dump())
		if diff := cmp.Diff(w.dump(), again.dump()); diff != "" || err != nil || again.start != w.start {
			t.Errorf("restored again: %v\n%s", err, diff)
		}
	})
}

// sound fails the test unless a window keeps to what its comments say.
func sound(t *testing.T, w *window) {
	t.Helper()
	next := w.start
	for i, r := range w.runs {
		switch {
		case r.first != next || r.last < r.first:
			t.Fatalf("run %d is %+v, want it from %d on", i, r, next)
		case (r.state == acquired) != (r.lock != nil):
			t.Fatalf("run %d in state %d has lock %v", i, r.state, r.lock)
		case r.count == 0 && r.state != archived:
			t.Fatalf("run %d in state %d was never delivered", i, r.state)
		case i == 0 && r.done():
			t.Fatalf("the first run is %+v, which is done with", r)
		}
		if i > 0 {
			if p := w.runs[i-1]; p.state == r.state && p.count == r.count && p.lock == r.lock {
				t.Fatalf("runs %d and %d are alike: %+v", i-1, i, r)
			}
		}
		next = r.last + 1
	}
}
