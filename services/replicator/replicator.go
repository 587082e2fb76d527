// Package replicator carries topics between the box's broker and a central
// Kafka, in order per partition, exactly once: the position in the source is
// part of the same transaction at the destination as the records before it.
package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// Config is what a replicator needs to run.
type Config struct {
	Links      []site.Link
	Site       string                // the box's name; part of the client id that the centre sees
	Source     []string              // bootstrap of the box's broker, host:port
	Secrets    string                // folder of the files that the links name
	Registerer prometheus.Registerer // nil keeps the metrics to itself
	Log        *slog.Logger          // nil discards
}

// Replicator runs the links of one box. Make it with New, then call Run once.
type Replicator struct {
	links   []*link
	log     *slog.Logger
	ready   chan struct{}
	running atomic.Bool
}

// New checks the links and opens their clients, which dial nothing yet. Links
// without topics are left out: they are idle.
func New(cfg Config) (*Replicator, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	r := &Replicator{log: cfg.Log, ready: make(chan struct{})}
	seen := map[string]bool{}
	for _, lc := range cfg.Links {
		if lc.Name == "" || seen[lc.Name] {
			err = errors.New("a link needs a name of its own")
		}
		seen[lc.Name] = true
		if err == nil && len(lc.Topics)+len(lc.Rules) > 0 {
			err = r.add(cfg, lc, m)
		}
		if err != nil {
			for _, l := range r.links {
				l.close()
			}
			return nil, fmt.Errorf("link %q: %w", lc.Name, err)
		}
	}
	return r, nil
}

func (r *Replicator) add(cfg Config, lc site.Link, m *metrics) error {
	l, err := newLink(cfg, lc, m)
	if err != nil {
		return err
	}
	r.links = append(r.links, l)
	return nil
}

// Run carries records until ctx ends; a centre that is away never ends it.
// On return, what the destination has acknowledged is committed if the box's
// broker answers within seconds, and nothing of the replicator runs.
func (r *Replicator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range r.links {
		wg.Go(func() { l.run(ctx) })
		wg.Go(func() { l.watch(ctx) })
	}
	r.running.Store(true)
	close(r.ready)
	<-ctx.Done()
	r.running.Store(false)
	// A destination that accepts and stays silent holds franz-go for its
	// request time-out, whatever a request's context says; closing ends that.
	for _, l := range r.links {
		defer time.AfterFunc(2*l.pace.grace, l.abort).Stop()
	}
	wg.Wait()
	return nil
}

// Ready is closed when the links run, whether or not their centre answers.
func (r *Replicator) Ready() <-chan struct{} { return r.ready }

// stuckAfter is beyond every time-out a link's loop waits for.
const stuckAfter = 2 * time.Minute

// Healthy is nil while every link makes progress or waits for its centre,
// for as long as that takes. A restart would not bring the centre back.
func (r *Replicator) Healthy() error {
	if !r.running.Load() {
		return errors.New("replicator is not running")
	}
	for _, l := range r.links {
		if idle := l.state.sinceTurn(); idle > stuckAfter {
			return fmt.Errorf("link %q: its loop has not turned for %s", l.name, idle.Round(time.Second))
		}
	}
	return nil
}

// Status reports flows and links. OK is about this box: it stays true while
// a centre is away, and is false when a partition is refused or the box's
// own broker cannot be read.
func (r *Replicator) Status() manifest.Report {
	rep := manifest.Report{Name: "replicator", OK: true, Summary: "no links"}
	up, lag := 0, int64(0)
	for _, l := range r.links {
		s, ok := l.report(&rep)
		if s.Up {
			up++
		}
		lag += s.Lag
		rep.OK = rep.OK && ok
		rep.Links = append(rep.Links, s)
	}
	if len(r.links) > 0 {
		rep.Summary = fmt.Sprintf("%d of %d links up, %d records waiting", up, len(r.links), lag)
	}
	return rep
}
