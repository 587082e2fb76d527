// Package updater takes new releases: it follows a signed repository, writes
// a release into the inactive slot, has init start it, and decides on the
// trial whether it stays. docs/updates.md tells the whole of it.
package updater

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/trust"
	"github.com/waysideos/wayside/services/vfs"
)

// RootFile is where a release carries the TUF root to trust at first.
const RootFile = layout.RootTUF

// Config is what an updater needs to run.
type Config struct {
	Site site.Update
	// Root is the TUF root that the running release carries. Without one the
	// box takes no updates, and says so.
	Root  []byte
	Arch  string // GOARCH of releases
	State vfs.FS // the service's own folder
	Dev   vfs.FS // where the nodes of slots are: /dev
	// Drivers knows the devices of the machine; nil where nobody does.
	Drivers Drivers
	Init    Init // nil where there is none: a laptop
	// SiteFile is the site profile in force, as services read it.
	SiteFile string
	RunDir   string       // services answer at RunDir/SERVICE/status.sock
	Media    string       // folder of removable disks: manifest.RemovableDir
	Broker   []string     // the box's broker, host:port
	API      net.Listener // of manifest.UpdateSock; closed by Run
	TLS      *tls.Config  // for https sources; nil: the system's authorities

	Registerer prometheus.Registerer // nil keeps the metrics to itself
	Log        *slog.Logger          // nil discards
}

// Updater is the service. Make it with New, then call Run once.
type Updater struct {
	cfg     Config
	log     *slog.Logger
	m       *metrics
	pace    pace
	now     func() time.Time
	http    []named // sources that are always there
	window  *site.Window
	zone    *time.Location
	ready   chan struct{}
	serving atomic.Bool
	turned  atomic.Int64              // when the worker last came round, Unix ns
	reached atomic.Pointer[time.Time] // when somebody last asked for the profile
	jobs    chan job

	// Of the worker alone.
	st       state
	slots    manifest.Slots
	box      manifest.Box
	catalog  *trust.Catalog
	choice   choice
	plan     plan
	started  time.Time
	problems []string // of the configuration

	mu   sync.Mutex
	view manifest.Update
}

// pace is how often things are done; tests shorten it.
type pace struct {
	tick     time.Duration // between two looks for something to do
	look     time.Duration // between two questions to init while nothing happens
	refresh  time.Duration // between two refreshes
	gate     time.Duration // between two looks of the gate
	profile  time.Duration // how long all has to be well with another site profile
	blame    time.Duration // how long the world gets to show itself after a failed trial
	margin   time.Duration // the gate decides so long before init would
	quick    source.Patience
	patience source.Patience
}

var defaultPace = pace{
	tick: 5 * time.Second, look: time.Minute, refresh: time.Hour, gate: 3 * time.Second, profile: 15 * time.Second,
	blame: 3 * time.Minute, margin: 30 * time.Second,
	quick:    source.Patience{Tries: 3, Low: time.Second, High: 5 * time.Second},
	patience: source.DefaultPatience,
}

// New checks the configuration and reads what is remembered.
func New(cfg Config) (*Updater, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register update metrics: %w", err)
	}
	u := &Updater{cfg: cfg, log: cfg.Log, m: m, pace: defaultPace, now: time.Now,
		ready: make(chan struct{}), jobs: make(chan job), zone: time.UTC}
	if u.st, err = loadState(cfg.State); err != nil {
		u.log.Warn("what the updater remembered is passed over", "error", err)
	}
	u.http = u.network()
	u.schedule()
	u.view = manifest.Update{Phase: manifest.UpdateIdle, Auto: cfg.Site.Auto, Window: u.windowText()}
	return u, nil
}

// schedule reads window and time zone.
func (u *Updater) schedule() {
	if z, err := time.LoadLocation(u.cfg.Site.Zone); err == nil {
		u.zone = z
	} else {
		u.problems = append(u.problems, fmt.Sprintf("time zone %s is unknown, the window is in UTC", u.cfg.Site.Zone))
	}
	if u.cfg.Site.Window == "" {
		return
	}
	if w, err := site.ParseWindow(u.cfg.Site.Window); err == nil {
		u.window = &w
	}
}

func (u *Updater) windowText() string {
	if u.window == nil {
		return ""
	}
	return u.cfg.Site.Window + " " + u.zone.String()
}

// Run works until ctx ends. On return nothing of the updater runs; what was
// being downloaded goes on from there the next time.
func (u *Updater) Run(ctx context.Context) error {
	u.started = u.now()
	u.turned.Store(time.Now().UnixNano())
	served := u.serve(ctx)
	u.serving.Store(true)
	close(u.ready)
	defer u.serving.Store(false)
	tick := time.NewTicker(u.pace.tick)
	defer tick.Stop()
	for {
		u.turn(ctx)
		u.turned.Store(time.Now().UnixNano())
		select {
		case <-tick.C:
		case j := <-u.jobs:
			u.step(j.verb+" was asked for", 0, 0) // before init has answered, too, whoever watches sees that it runs
			j.done <- u.settle(ctx, j.verb, j.do(ctx))
		case err := <-served:
			return err
		case <-ctx.Done():
			return <-served
		}
	}
}

// Ready is closed when the API answers.
func (u *Updater) Ready() <-chan struct{} { return u.ready }

// Healthy is nil while the updater runs. How long a download or a trial takes
// is not its to decide: each has deadlines of its own.
func (u *Updater) Healthy() error {
	if !u.serving.Load() {
		return errors.New("updater is not running")
	}
	return nil
}

// set changes what is told.
func (u *Updater) set(change func(v *manifest.Update)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.view)
	u.m.show(&u.view)
}

// Update is what the updater says of itself.
func (u *Updater) Update() manifest.Update {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := u.view
	v.Fetched = u.m.fetchedBytes()
	return v
}

// settle notes how a verb or a round went.
func (u *Updater) settle(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	u.m.verb(what, err)
	u.set(func(v *manifest.Update) {
		v.Step, v.Done, v.Total = "", 0, 0
		v.Problem = ""
		if err != nil {
			v.Problem = err.Error()
		}
	})
	if err != nil {
		u.log.Warn("update: "+what+" failed", "error", err)
	}
	u.tell()
	return err
}

// tell brings phase and releases of the view up to date.
func (u *Updater) tell() {
	u.set(func(v *manifest.Update) {
		v.Phase = u.phase()
		v.Running, v.Counter = u.slots.Running.Version, u.slots.Running.Counter
		v.Last, v.Trial, v.Blame = u.slots.Last, u.slots.Trial, u.st.Blame
		v.Available, v.Prepared = brief(u.choice.next), nil
		if u.prepared() {
			v.Prepared = brief(u.st.Prepared)
		}
		v.Refused = u.choice.refused
		if v.Trial == nil {
			v.Checks = nil
		}
	})
}

func (u *Updater) phase() string {
	switch {
	case u.slots.Trial != nil:
		return manifest.UpdateTrial
	case u.slots.Pending != nil:
		return manifest.UpdatePending
	case u.prepared():
		return manifest.UpdatePrepared
	case u.choice.next != nil:
		return manifest.UpdateAvailable
	}
	return manifest.UpdateIdle
}

// whole says whether a release is in the other slot, verified; prepared, that
// it may be installed too.
func (u *Updater) whole() bool    { return u.st.Prepared != nil && u.st.Progress.Done }
func (u *Updater) prepared() bool { return u.whole() && u.refusal(u.st.Prepared) == "" }

func brief(t *release.Target) *manifest.UpdateRelease {
	if t == nil {
		return nil
	}
	return &manifest.UpdateRelease{Version: t.Version, Counter: t.Counter, Notes: t.Notes, Bytes: t.PackBytes + t.UKIBytes}
}
