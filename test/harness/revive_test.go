package harness

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stopped is a machine whose timer stops at each of its first boots.
type stopped struct {
	left  int // boots that stop
	calls []string
}

func (m *stopped) DeadTimer(context.Context) (int, bool) { return 1, m.left > 0 }
func (m *stopped) LocalAPIC(context.Context, int) (string, error) {
	return "LVTT 0x000000ec", nil
}
func (m *stopped) PowerCut() error { m.calls = append(m.calls, "cut"); return nil }
func (m *stopped) PowerOn(context.Context) error {
	m.calls = append(m.calls, "on")
	m.left--
	return nil
}

// listener is a test that may fail, and what it says.
type listener struct {
	testing.TB
	said string
}

func (l *listener) Helper()                         {}
func (l *listener) Logf(format string, args ...any) { l.said += fmt.Sprintf(format, args...) + "\n" }
func (l *listener) Fatalf(format string, args ...any) {
	l.Logf("FATAL "+format, args...)
	runtime.Goexit()
}

// hear runs what a test does and gives all that it says.
func hear(t *testing.T, do func(testing.TB)) string {
	l, done := &listener{TB: t}, make(chan struct{})
	go func() { defer close(done); do(l) }()
	<-done
	return l.said
}

func TestRevive(t *testing.T) {
	for _, c := range []struct {
		name     string
		left     int
		recorded bool
		want     string // said, "" for nothing
		calls    string
	}{
		{"a healthy machine", 0, false, "", ""},
		{"once", 1, false, "NOTE: EMULATOR FAULT, 1 of at most 1: QEMU has stopped the timer of processor 1", "cut on"},
		{"twice", 2, false, "FATAL EMULATOR FAULT, for the second time", "cut on"},
		{"recorded", 1, true, "FATAL EMULATOR FAULT: QEMU has stopped", ""},
	} {
		m, once := &stopped{left: c.left}, &atomic.Bool{}
		said := hear(t, func(t testing.TB) {
			for revive(t, m, once, c.recorded) {
			}
		})
		if !strings.Contains(said, c.want) || (c.want == "") != (said == "") {
			t.Errorf("%s: it says %q, want %q", c.name, said, c.want)
		}
		if got := strings.Join(m.calls, " "); got != c.calls {
			t.Errorf("%s: got calls %q, want %q", c.name, got, c.calls)
		}
	}
}

// TestEventuallyBeginsAnew has a machine that stops, and is ready when it has
// been switched on again: the deadline counts from there.
func TestEventuallyBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, once, begin := &stopped{left: 1}, &atomic.Bool{}, time.Now()
		ready := func(context.Context) error {
			if m.left > 0 || time.Since(begin) < 3*time.Second {
				return errors.New("it boots")
			}
			return nil
		}
		said := hear(t, func(t testing.TB) {
			eventually(t, 2*time.Second, "ready", ready, func() bool {
				return time.Since(begin) > 1500*time.Millisecond && revive(t, m, once, false)
			})
		})
		if strings.Contains(said, "FATAL") || strings.Count(said, "NOTE") != 1 {
			t.Errorf("got %q, want one note", said)
		}
	})
}

// TestAsk asks again only what says nothing.
func TestAsk(t *testing.T) {
	broken, slow := errors.New("503"), fmt.Errorf("get: %w", context.DeadlineExceeded)
	for _, c := range []struct {
		name    string
		answers []error // the last one for ever
		asked   int     // 0: until the end
		want    string  // said, "" for nothing
	}{
		{"it answers", []error{nil}, 1, ""},
		{"it is slow once", []error{slow, nil}, 2, "NOTE: a look: no answer yet"},
		{"it is broken", []error{broken, nil}, 1, "FATAL a look: 503"},
		{"it is slow, and broken", []error{slow, broken, nil}, 2, "FATAL a look: 503"},
		{"it says nothing", []error{slow}, 0, "FATAL a look: not within 1m0s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			said := hear(t, func(t testing.TB) {
				ask(t, "a look", func(context.Context) error {
					asked++
					return c.answers[min(asked, len(c.answers))-1]
				}, func() bool { return false })
			})
			if !strings.Contains(said, c.want) || (c.want == "") != (said == "") || c.asked > 0 && asked != c.asked {
				t.Errorf("%s: asked %d times, it says %q; want %d and %q", c.name, asked, said, c.asked, c.want)
			}
		})
	}
}
