//go:build linux

// Package clock keeps the box's time: never before a floor that can be
// trusted without a network, and by NTP once there is one.
package clock

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	firstPoll = 64 * time.Second // between queries once synchronised
	lastPoll  = 512 * time.Second
	// Before, servers are asked anew after firstRetry, doubled up to firstPoll.
	firstRetry = 2 * time.Second
	saveEvery  = 15 * time.Minute
	// stale is how long the clock counts as synchronised without an answer.
	stale = 24 * time.Hour
	// quiet is how long a server is left alone that asked for it.
	quiet = time.Hour
	// lifetime is how long after its build a release may run. A clock beyond
	// it was set by a broken battery or a lie.
	lifetime = 30 * 365 * 24 * time.Hour
	// maxServers is how many servers are asked at a time.
	maxServers = 4
)

// Config is what a Clock works with.
type Config struct {
	FS    vfs.FS    // the state partition; nil saves nothing
	Epoch time.Time // of the build: it cannot be earlier than that
	// Known are other times that have passed for certain: of signed metadata,
	// of the newest record.
	Known   []time.Time
	Servers func() []string // host or host:port, asked before each query; may be nil
	Log     *slog.Logger
	// Guard is deferred in every goroutine, with its purpose: it recovers from
	// a panic, which would end the process. nil lets panics pass.
	Guard func(what string)
}

// Clock keeps the system clock.
type Clock struct {
	cfg   Config
	sys   system
	query func(ctx context.Context, server string) (sample, error)

	mu     sync.Mutex
	floor  time.Time // at the time of anchor; it moves on with the uptime
	anchor time.Time // when floor was true, by the monotonic clock
	source string
	synced time.Time            // last good answer, by the monotonic clock; zero before
	shun   map[string]time.Time // servers to be left alone until then
}

// New prepares a Clock; nothing is touched before Floor.
func New(cfg Config) *Clock {
	if cfg.Guard == nil {
		cfg.Guard = func(string) {}
	}
	return &Clock{cfg: cfg, sys: linux{}, query: query,
		floor: cfg.Epoch, anchor: time.Now(), source: "rtc", shun: map[string]time.Time{}}
}

// Floor finds the earliest time it can be and sets the clock to it if the
// clock is before, or beyond belief. It is called before Run and before anything
// that looks at the clock, and again when a hardware clock was found. The floor
// holds even with an error, which says that the saved time was not read or the
// clock not set.
func (c *Clock) Floor() error {
	floor := c.cfg.Epoch
	var problem error
	if c.cfg.FS != nil {
		saved, err := load(c.cfg.FS)
		problem = err
		floor = latest(floor, saved)
	}
	for _, t := range c.cfg.Known {
		floor = latest(floor, t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor, c.anchor = floor, time.Now()
	now := c.sys.now()
	if !now.Before(floor) && !now.After(c.ceiling()) {
		c.source = "rtc"
		return problem
	}
	c.source = "floor"
	c.cfg.Log.Warn("clock is set to the trusted floor", "was", stamp(now), "floor", stamp(floor))
	return errors.Join(problem, c.sys.step(floor))
}

func (c *Clock) ceiling() time.Time { return c.cfg.Epoch.Add(lifetime) }

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// floorNow is the floor as it is now. It never follows the hardware clock: that
// may be wrong by years, and a floor once saved is there for ever. The caller
// holds mu.
func (c *Clock) floorNow() time.Time { return c.floor.Add(time.Since(c.anchor)) }

// Run synchronises the clock and saves the time, until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	defer c.save()
	poll, retry := firstPoll, firstRetry
	next, nextSave := time.NewTimer(0), time.NewTicker(saveEvery)
	defer next.Stop()
	defer nextSave.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-nextSave.C:
			c.save()
		case <-next.C:
			switch c.synchronise(ctx) {
			case leave:
				next.Reset(retry)
				retry = min(2*retry, firstPoll)
			case step:
				poll, retry = firstPoll, firstRetry
				next.Reset(poll)
			case slew:
				next.Reset(poll)
				poll, retry = min(2*poll, lastPoll), firstRetry
			}
		}
	}
}

// synchronise asks the servers once and corrects the clock.
func (c *Clock) synchronise(ctx context.Context) correction {
	servers := c.servers()
	if len(servers) == 0 {
		return leave
	}
	samples := c.ask(ctx, servers)
	if ctx.Err() != nil {
		return leave
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.sys.now()
	v := judge(now, c.floorNow(), c.ceiling(), samples)
	var err error
	switch v.do {
	case leave:
		c.cfg.Log.Info("clock is left alone", "reason", v.reason)
		return leave
	case step:
		c.cfg.Log.Warn("clock is stepped", "by", v.offset.String(), "server", v.server)
		err = c.sys.step(now.Add(v.offset))
	case slew:
		err = c.sys.slew(v.offset)
	}
	if err == nil {
		err = c.sys.synchronised(v.distance)
	}
	if err != nil {
		c.cfg.Log.Error("clock", "err", err)
		return leave
	}
	if c.synced.IsZero() {
		c.cfg.Log.Info("clock is synchronised", "server", v.server, "offset", v.offset.String())
	}
	// The floor stays behind by the server's own error, and by ours while we
	// slew.
	c.synced, c.source = time.Now(), "ntp:"+v.server
	if f := now.Add(v.offset - v.distance); f.After(c.floorNow()) {
		c.floor, c.anchor = f, c.synced
	}
	return v.do
}

// servers lists those to ask now.
func (c *Clock) servers() []string {
	if c.cfg.Servers == nil {
		return nil
	}
	all := c.cfg.Servers()
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, s := range all {
		if time.Now().After(c.shun[s]) && len(out) < maxServers {
			out = append(out, s)
		}
	}
	return out
}

// ask queries all servers at once.
func (c *Clock) ask(ctx context.Context, servers []string) []sample {
	results := make([]*sample, len(servers))
	var all sync.WaitGroup
	for i, server := range servers {
		all.Go(func() {
			defer c.cfg.Guard("query of time server " + server)
			s, err := c.query(ctx, server)
			if err == nil {
				results[i] = &s
				return
			}
			c.cfg.Log.Debug("time server", "server", server, "err", err)
			var kiss kissOfDeath
			if errors.As(err, &kiss) {
				c.mu.Lock()
				c.shun[server] = time.Now().Add(quiet)
				c.mu.Unlock()
			}
		})
	}
	all.Wait()
	var out []sample
	for _, s := range results {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// save writes the floor for the next boot.
func (c *Clock) save() {
	if c.cfg.FS == nil {
		return
	}
	c.mu.Lock()
	t := c.floorNow()
	c.mu.Unlock()
	if err := save(c.cfg.FS, t); err != nil {
		c.cfg.Log.Warn("clock", "err", err)
	}
}

// Status says how far the time can be trusted.
func (c *Clock) Status() manifest.Clock {
	c.mu.Lock()
	defer c.mu.Unlock()
	return manifest.Clock{
		Synchronised: !c.synced.IsZero() && time.Since(c.synced) < stale,
		Source:       c.source, Floor: c.floorNow().UTC().Round(0),
	}
}
