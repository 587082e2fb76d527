// Package gate decides whether a version on trial keeps the product's
// promise: it compares the box with how it was before the update, and blames
// the version only for what worked then.
package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// Probe looks at the running box.
type Probe interface {
	Box(ctx context.Context) (manifest.Box, error)
	Report(ctx context.Context, service string) (manifest.Report, error)
	// Canary takes a record through the broker's own port, out and in again.
	Canary(ctx context.Context) error
	// Source is nil when an update source answers.
	Source(ctx context.Context) error
}

// Names of checks. A service's and a link's name follow the last three.
const (
	CheckServices = "services"
	CheckModules  = "kernel modules"
	CheckCanary   = "canary"
	CheckSource   = "update source"
	CheckService  = "service "
	CheckReach    = "reach of service " // in place of CheckService, where the world may be bad
	CheckLink     = "uplink "
)

// Outside says whether a check can fail because the world is bad.
func Outside(check string) bool {
	return check == CheckSource || strings.HasPrefix(check, CheckLink) || strings.HasPrefix(check, CheckReach)
}

// Baseline is what worked before an update. The zero value asks for nothing
// but services and broker.
type Baseline struct {
	Version  string    `json:"version"` // that was running
	Time     time.Time `json:"time"`
	Services []string  `json:"services"` // that said they were well
	Links    []string  `json:"links"`    // uplinks that were up
	Source   bool      `json:"source"`   // an update source answered
	// Missing are kernel modules that could not be loaded then either; nil of a
	// release that did not look.
	Missing []string `json:"missing_modules"`
}

// Take looks at what works now.
func Take(ctx context.Context, p Probe) (Baseline, error) {
	box, err := p.Box(ctx)
	if err != nil {
		return Baseline{}, err
	}
	b := Baseline{Version: box.Version, Time: time.Now().UTC(), Source: p.Source(ctx) == nil, Missing: append([]string{}, box.MissingModules...)}
	for _, s := range box.Services {
		r, err := p.Report(ctx, s.Name)
		if err != nil {
			continue
		}
		if r.OK && s.Ready {
			b.Services = append(b.Services, s.Name)
		}
		for _, l := range r.Links {
			if l.Up {
				b.Links = append(b.Links, l.Name)
			}
		}
	}
	return b, nil
}

// Gate is one trial.
type Gate struct {
	Probe    Probe
	Baseline Baseline
	Settle   time.Duration // how long all has to be well
	Limit    time.Duration // until it must have been
	Every    time.Duration // between two looks
	Log      *slog.Logger
	// Restarts is how often each service had been restarted before the trial;
	// nil where that began with the boot.
	Restarts map[string]int
	// Seen is told of every look; may be nil.
	Seen func([]manifest.Check)
}

// lookLimit bounds one look; a Limit leaves at least that long before init's
// own deadline.
const lookLimit = 25 * time.Second

// What makes a trial hopeless, so that it ends at once and not at its limit.
const (
	crashLoop   = 5 // restarts, in this trial, of a service that was well before
	wrongCanary = 2 // looks in a row at which the broker was wrong
)

// ErrWrong is wrapped by a canary that came back as something else: a broker
// that is slow may get better, one that lies does not.
var ErrWrong = errors.New("the broker is wrong")

// Verdict is what a trial came to.
type Verdict struct {
	Good   bool
	Checks []manifest.Check // of the last look
	// Check, Reason and Detail of the first check that was not well.
	Check, Reason, Detail string
}

// Run looks until all was well for the settled time, or the limit is over. An
// error is only that of ctx.
func (g *Gate) Run(ctx context.Context) (Verdict, error) {
	begin, well := time.Now(), time.Time{}
	seen := &memory{restarts: map[string]int{}}
	last := map[string]string{} // what was wrong in the last look, for the log
	tick := time.NewTicker(g.Every)
	defer tick.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, lookLimit)
		checks := g.look(look, seen)
		cancel()
		if ctx.Err() != nil {
			return Verdict{}, ctx.Err()
		}
		g.tell(checks, last)
		now := time.Now()
		bad := slices.IndexFunc(checks, func(c manifest.Check) bool { return !c.OK })
		switch {
		case bad >= 0:
			well = time.Time{}
		case well.IsZero():
			well = now
		}
		if bad < 0 && now.Sub(well) >= g.Settle {
			return Verdict{Good: true, Checks: checks}, nil
		}
		if i := slices.IndexFunc(checks, func(c manifest.Check) bool { return c.Name == seen.hopeless && !c.OK }); i >= 0 {
			return g.failed(checks, i, last), nil
		}
		if now.Sub(begin) >= g.Limit {
			return g.failed(checks, bad, last), nil
		}
		select {
		case <-ctx.Done():
			return Verdict{}, ctx.Err()
		case <-tick.C:
		}
	}
}

func (g *Gate) failed(checks []manifest.Check, bad int, last map[string]string) Verdict {
	v := Verdict{Checks: checks, Check: CheckServices, Reason: "all was never well for " + g.Settle.String() + " without a break"}
	if bad >= 0 {
		c := checks[bad]
		v.Check, v.Reason = c.Name, "was not well until the end of the trial"
		if c.Detail != "" {
			v.Reason = c.Detail
		}
	} else {
		for name, detail := range last {
			v.Check, v.Reason = name, "comes and goes: "+detail
		}
	}
	var lines []string
	for _, c := range checks {
		if !c.OK {
			lines = append(lines, c.Name+": "+c.Detail)
		}
	}
	v.Detail = strings.Join(lines, "\n")
	return v
}

// tell logs what has changed since the last look. What was wrong stays in
// last until the end: it may come and go.
func (g *Gate) tell(checks []manifest.Check, last map[string]string) {
	for _, c := range checks {
		was, known := last[c.Name]
		switch {
		case !c.OK && (!known || was != c.Detail):
			g.Log.Warn("trial: not well", "check", c.Name, "detail", c.Detail)
			last[c.Name] = c.Detail
		}
	}
	if g.Seen != nil {
		g.Seen(checks)
	}
}

// memory is what one look keeps for the next.
type memory struct {
	restarts map[string]int // how often each service had been restarted
	wrong    int            // looks in a row at which the canary was wrong
	hopeless string         // the check that nothing mends any more
}

// look asks every question once.
func (g *Gate) look(ctx context.Context, seen *memory) []manifest.Check {
	box, err := g.Probe.Box(ctx)
	if err != nil {
		return []manifest.Check{{Name: CheckServices, Detail: "init cannot be asked: " + err.Error()}}
	}
	checks := []manifest.Check{servicesReady(box, seen.restarts)}
	if why := g.givenUp(box); why != "" {
		checks[0], seen.hopeless = manifest.Check{Name: CheckServices, Detail: why}, CheckServices
	}
	add := func(name string, err error) {
		c := manifest.Check{Name: name, OK: err == nil}
		if err != nil {
			c.Detail = err.Error()
		}
		checks = append(checks, c)
	}
	if err := g.modules(box); err != nil {
		add(CheckModules, err)
		seen.hopeless = CheckModules
	}
	canary := g.Probe.Canary(ctx)
	add(CheckCanary, canary)
	if seen.wrong++; !errors.Is(canary, ErrWrong) {
		seen.wrong = 0
	} else if seen.wrong >= wrongCanary {
		seen.hopeless = CheckCanary
	}
	links := map[string]manifest.Link{}
	for _, s := range box.Services {
		r, err := g.Probe.Report(ctx, s.Name)
		for _, l := range r.Links {
			links[l.Name] = l
		}
		if !slices.Contains(g.Baseline.Services, s.Name) {
			continue
		}
		check := CheckService
		if err == nil && !r.OK {
			err = fmt.Errorf("was well before the update, and now says: %s", r.Summary)
			if r.Outside {
				check = CheckReach
			}
		}
		add(check+s.Name, err)
	}
	for _, name := range g.Baseline.Services {
		if !slices.ContainsFunc(box.Services, func(s manifest.Service) bool { return s.Name == name }) {
			add(CheckService+name, fmt.Errorf("worked before the update, and this version does not have it"))
		}
	}
	for _, name := range g.Baseline.Links {
		l, ok := links[name]
		switch {
		case !ok:
			add(CheckLink+name, fmt.Errorf("was up before the update, and nobody speaks of it now"))
		case !l.Up:
			add(CheckLink+name, fmt.Errorf("was up before the update, and is down: %s", l.Error))
		default:
			add(CheckLink+name, nil)
		}
	}
	if g.Baseline.Source {
		add(CheckSource, g.Probe.Source(ctx))
	}
	return checks
}

func servicesReady(box manifest.Box, restarts map[string]int) manifest.Check {
	var bad []string
	for _, s := range box.Services {
		before, known := restarts[s.Name]
		restarts[s.Name] = s.Restarts
		switch {
		case !s.Ready:
			text := s.Name + " is not ready (" + s.State
			if s.LastExit != "" {
				text += ", last exit: " + s.LastExit
			}
			bad = append(bad, text+")")
		case known && s.Restarts > before:
			bad = append(bad, s.Name+" was restarted (last exit: "+s.LastExit+")")
		}
	}
	if len(box.Services) == 0 {
		bad = []string{"init declares no service"}
	}
	return manifest.Check{Name: CheckServices, OK: len(bad) == 0, Detail: strings.Join(bad, "; ")}
}

// givenUp names a service that was well before the update and will not be any
// more: its supervisor has given up on it, or it falls over and over.
func (g *Gate) givenUp(box manifest.Box) string {
	for _, s := range box.Services {
		restarts := s.Restarts - g.Restarts[s.Name]
		switch {
		case !slices.Contains(g.Baseline.Services, s.Name):
		case s.State == serviceFailed:
			return s.Name + " has failed for good (last exit: " + s.LastExit + ")"
		case restarts >= crashLoop && g.Restarts == nil:
			return fmt.Sprintf("%s crashes again and again: restarted %d times since the boot (last exit: %s)", s.Name, restarts, s.LastExit)
		case restarts >= crashLoop:
			return fmt.Sprintf("%s crashes again and again: restarted %d times in the trial (last exit: %s)", s.Name, restarts, s.LastExit)
		}
	}
	return ""
}

// serviceFailed is the state of a service that is not started again
// (init/supervise).
const serviceFailed = "failed"

// modules is about drivers that this version could not load and the one before
// could. A box of which nothing is remembered gets the benefit of the doubt.
func (g *Gate) modules(box manifest.Box) error {
	var lost []string
	for _, m := range box.MissingModules {
		if g.Baseline.Missing != nil && !slices.Contains(g.Baseline.Missing, m) {
			lost = append(lost, m)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("could be loaded before the update, and cannot now: %s", strings.Join(lost, ", "))
}
