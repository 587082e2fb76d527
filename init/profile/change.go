package profile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// Window is how long a profile may be on trial before it is taken back.
const Window = 5 * time.Minute

// ChangerConfig is what a Changer works with.
type ChangerConfig struct {
	State vfs.FS  // the state partition; nil if it could not be mounted
	Boot  *Result // what the box has started with
	Own   site.Own
	Log   *slog.Logger
	// Enforce has the running box do as r says, which was until now like was.
	// Services is what was started anew for it, later what waits for the next
	// start of the box.
	Enforce func(was, r *Result) (services, later []string, err error)
	// Kept is told when there is no way back any more.
	Kept func(was, r *Result)
	// Reaches says whether the gateway of the uplink answers.
	Reaches func(ctx context.Context) bool
	// Busy says why nothing can be changed now, "" if it can.
	Busy func() string
}

// Changer changes the profile of a box that runs: on trial at first, and what is
// not kept in time is taken back. Until it is kept nothing of it is on the disk,
// so that any restart takes it back as well.
type Changer struct {
	cfg   ChangerConfig
	begun chan struct{} // holds one word of a trial that has begun

	verb sync.Mutex // one after the other
	mu   sync.Mutex
	now  *Result // in force
	// Of a trial: what goes back into force, nil without one, when it does, and
	// whether the gateway answered before.
	was      *Result
	deadline time.Time
	reached  bool
	change   *manifest.ProfileChange
}

// NewChanger makes the one of a box.
func NewChanger(cfg ChangerConfig) *Changer {
	return &Changer{cfg: cfg, begun: make(chan struct{}, 1), now: cfg.Boot}
}

// Report is what the status page shows.
func (c *Changer) Report() manifest.Profile {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.now.Report
	if c.change == nil {
		return r
	}
	change := *c.change
	if c.was != nil {
		change.Remaining = max(0, time.Until(c.deadline).Seconds())
	}
	r.Change = &change
	return r
}

// Run takes back what is not kept in time, until ctx ends.
func (c *Changer) Run(ctx context.Context) error {
	var over <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.begun:
			over = time.After(Window)
		case <-over:
			c.mu.Lock()
			late := c.was != nil && !time.Now().Before(c.deadline)
			c.mu.Unlock()
			if late {
				_ = c.Back(fmt.Sprintf("nobody called it good within %v", Window)) // was logged
			}
		}
	}
}

// Apply has the box run by another profile, on trial. What it refuses is a
// slots.Refusal.
func (c *Changer) Apply(want manifest.ApplyProfile) error {
	c.verb.Lock()
	defer c.verb.Unlock()
	r, err := c.prepare(want)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reached := c.cfg.Reaches(ctx)
	was := c.now
	change := &manifest.ProfileChange{Digest: digest(r.given), Site: r.Profile.Site, State: manifest.ProfileTrial,
		Network: !same(was.Profile.Network, r.Profile.Network)}
	change.Services, change.NextStart, err = c.cfg.Enforce(was, r)
	if err != nil {
		_, _, back := c.cfg.Enforce(r, was)
		return errors.Join(fmt.Errorf("put the site profile into force: %w", err), back)
	}
	c.cfg.Log.Info("site profile: on trial", "site", r.Profile.Site, "sha256", change.Digest,
		"started anew", strings.Join(change.Services, " "), "at the next start", strings.Join(change.NextStart, " "))
	// Who has reached the box by then has reached it as it was.
	change.Time = time.Now().UTC()
	c.mu.Lock()
	c.now, c.was, c.change, c.reached, c.deadline = r, was, change, reached, time.Now().Add(Window)
	c.mu.Unlock()
	select {
	case c.begun <- struct{}{}:
	default: // Run has not heard of the one before, and takes its time from now
	}
	return nil
}

// prepare reads and judges what is asked for.
func (c *Changer) prepare(want manifest.ApplyProfile) (*Result, error) {
	switch {
	case c.cfg.State == nil:
		return nil, slots.Refusal("the state partition is not there: nothing could be kept")
	case c.was != nil:
		return nil, slots.Refusal("another site profile is on trial; ask again when that is over")
	case c.cfg.Busy() != "":
		return nil, slots.Refusal(c.cfg.Busy())
	}
	text := want.Text
	if want.Back {
		rec, err := c.files().readApplied()
		if err != nil {
			return nil, err
		}
		if rec == nil || rec.Before == nil {
			return nil, slots.Refusal("there is no profile to go back to: none was applied to this box, or it had the built-in one before")
		}
		text = rec.Before
	}
	p, err := within(func() (*site.Profile, error) { return site.ParseFor(want.File, text, c.cfg.Own) })
	var bad site.Errors
	if errors.As(err, &bad) {
		return nil, slots.Refusal(bad.Error())
	}
	if err != nil {
		return nil, err
	}
	r := &Result{over: c.now.over}
	r.take(p, slices.Clone(text), "applied")
	if r.Text, err = site.Marshal(p); err != nil {
		return nil, err
	}
	return r, nil
}

// Keep makes the profile on trial the box's own. It fails as long as the gateway
// of the uplink does not answer, if it did before.
func (c *Changer) Keep() error {
	c.verb.Lock()
	defer c.verb.Unlock()
	if c.was == nil {
		if c.change != nil && c.change.State == manifest.ProfileKept {
			return nil // it was asked before, and the answer was lost
		}
		return slots.Refusal("no site profile is on trial")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.reached && !c.cfg.Reaches(ctx) {
		return errors.New("the gateway of the uplink does not answer, and did before")
	}
	if err := c.files().keepApplied(applied{Time: time.Now().UTC(), Over: c.now.over, Profile: c.now.given, Before: c.was.given}); err != nil {
		return err
	}
	was := c.was
	c.end(c.now, manifest.ProfileKept, "")
	c.cfg.Log.Info("site profile: applied", "site", c.now.Profile.Site, "sha256", c.change.Digest)
	c.cfg.Kept(was, c.now)
	return nil
}

// Back puts the profile into force that was before the trial.
func (c *Changer) Back(why string) error {
	c.verb.Lock()
	defer c.verb.Unlock()
	if c.was == nil {
		if c.change != nil && c.change.State == manifest.ProfileBack {
			return nil
		}
		return slots.Refusal("no site profile is on trial")
	}
	_, _, err := c.cfg.Enforce(c.now, c.was)
	c.cfg.Log.Error("site profile: taken back", "site", c.now.Profile.Site, "sha256", c.change.Digest, "reason", why, "err", err)
	c.end(c.was, manifest.ProfileBack, why)
	return err
}

// end is that of a trial.
func (c *Changer) end(now *Result, state, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change := *c.change
	change.State, change.Reason, change.Time = state, why, time.Now().UTC()
	c.now, c.was, c.change = now, nil, &change
}

func (c *Changer) files() Config { return Config{State: c.cfg.State, Log: c.cfg.Log} }
