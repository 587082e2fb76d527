// Package watchdog arms the hardware watchdog and feeds it only while PID 1
// shows progress: a PID 1 that hangs is reset by the hardware.
package watchdog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Feeder feeds a watchdog as long as its lease runs. Whoever makes progress
// extends the lease; nobody can renew it for another.
type Feeder struct {
	log *slog.Logger

	mu    sync.Mutex
	feed  func() error // nil while there is no watchdog
	until time.Time    // end of the lease
	last  bool         // nobody may extend it any more
	hungs bool         // the lease ran out and that was said
}

// NewFeeder returns a feeder without a watchdog and without a lease.
func NewFeeder(log *slog.Logger) *Feeder { return &Feeder{log: log} }

// Attach gives the feeder the watchdog's keep-alive.
func (f *Feeder) Attach(feed func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.feed = feed
}

// Extend sets the lease to end in d from now, be that sooner or later than
// it would have ended.
func (f *Feeder) Extend(d time.Duration) { f.set(d, false) }

// Last is the lease of whoever ends the machine. The first one stands: an end
// that hangs must not be fed by a main loop that still turns, nor by a second
// attempt to end.
func (f *Feeder) Last(d time.Duration) { f.set(d, true) }

func (f *Feeder) set(d time.Duration, last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last {
		return
	}
	f.until, f.last, f.hungs = time.Now().Add(d), last, false
}

// Run feeds at the given interval until ctx ends.
func (f *Feeder) Run(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		f.turn()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *Feeder) turn() {
	f.mu.Lock()
	feed, alive := f.feed, time.Now().Before(f.until)
	first := !alive && !f.hungs
	f.hungs = !alive
	f.mu.Unlock()
	switch {
	case feed == nil:
	case alive:
		if err := feed(); err != nil {
			f.log.Warn("feed the watchdog", "err", err)
		}
	case first:
		f.log.Error("no progress: the watchdog is no longer fed")
	}
}
