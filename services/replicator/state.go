package replicator

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// quiet is how long one broker's failed dial says nothing about a link
	// on which others have just answered.
	quiet = 2 * time.Second
	// patience is how long a lot may be unanswered before the link is
	// called down: a cable that was cut says nothing.
	patience = 10 * time.Second
)

// state is whether a link's centre answers, as far as is known.
type state struct {
	log *slog.Logger
	up  prometheus.Gauge

	mu       sync.Mutex
	isUp     bool
	since    time.Time
	err      error // of the centre, nil when up
	boxErr   error // of the box's own broker
	answer   time.Time
	turned   time.Time
	waitFrom time.Time // zero: nothing is on its way
}

var (
	_ kgo.HookBrokerConnect = (*state)(nil)
	_ kgo.HookBrokerRead    = (*state)(nil)
)

func newState(log *slog.Logger, up prometheus.Gauge) *state {
	return &state{log: log, up: up, since: time.Now()}
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (s *state) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		s.failed(err)
	}
}

// OnBrokerRead implements kgo.HookBrokerRead: a centre that answers to a fetch
// is up, also when it has nothing new.
func (s *state) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err == nil && key == fetchKey {
		s.ok()
	}
}

const fetchKey = 1

// ok notes that the centre has answered.
func (s *state) ok() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.answer, s.err = now, nil
	if !s.waitFrom.IsZero() {
		s.waitFrom = now
	}
	s.set(true, now)
}

// failed notes that the centre cannot be used.
func (s *state) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.answer) < quiet {
		return
	}
	if s.err == nil || !errors.Is(err, context.DeadlineExceeded) { // what a dial said before says more
		s.err = err
	}
	s.set(false, now)
}

func (s *state) set(up bool, now time.Time) {
	if s.isUp == up {
		return
	}
	s.isUp, s.since = up, now
	if up {
		s.up.Set(1)
		s.log.Info("link is up")
		return
	}
	s.up.Set(0)
	s.log.Warn("link is down", "error", s.err)
}

// box notes an error of the box's own broker, or nil.
func (s *state) box(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.boxErr == nil {
		s.log.Warn("box's broker does not answer", "error", err)
	}
	s.boxErr = err
}

func (s *state) turn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned = time.Now()
}

// waiting says whether a lot is on its way.
func (s *state) waiting(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waitFrom = time.Time{}
	if yes {
		s.waitFrom = time.Now()
	}
	s.turned = time.Now()
}

// sinceTurn is how long the link's loop has done nothing, not counting time
// spent on waiting for the destination.
func (s *state) sinceTurn() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turned.IsZero() || !s.waitFrom.IsZero() {
		return 0
	}
	return time.Since(s.turned)
}

// silent is how long a lot on its way has had no answer, and how long the
// destination has said nothing at all.
func (s *state) silent() (lot, all time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waitFrom.IsZero() {
		lot = time.Since(s.waitFrom)
	}
	return lot, time.Since(s.answer)
}

func (s *state) now() (up bool, since time.Time, centre, box error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isUp, s.since, s.err, s.boxErr
}
