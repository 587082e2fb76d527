package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/manifest"
)

// world is a box and what is around it; change makes it another one after a
// while.
type world struct {
	begin                time.Time
	services             []manifest.Service
	reports              map[string]manifest.Report
	canary, source, init error
	missing              []string
	change               func(w *world, after time.Duration)
}

func (w *world) now() *world {
	if w.change != nil {
		w.change(w, time.Since(w.begin))
	}
	return w
}

func (w *world) Box(context.Context) (manifest.Box, error) {
	w.now()
	return manifest.Box{Version: "1.0", Services: w.services, MissingModules: w.missing}, w.init
}

func (w *world) Report(_ context.Context, name string) (manifest.Report, error) {
	r, ok := w.now().reports[name]
	if !ok {
		return r, errors.New("does not answer")
	}
	return r, nil
}

func (w *world) Canary(context.Context) error { return w.now().canary }
func (w *world) Source(context.Context) error { return w.now().source }

func good() *world {
	return &world{
		begin:    time.Now(),
		services: []manifest.Service{{Name: "broker", State: "running", Ready: true}, {Name: "mqtt", State: "running", Ready: true}, {Name: "replicator", State: "running", Ready: true}},
		reports: map[string]manifest.Report{"broker": {OK: true}, "mqtt": {OK: true},
			"replicator": {OK: true, Links: []manifest.Link{{Name: "centre", Up: true}}}},
	}
}

var down = errors.New("no route to host")

// TestGate: what the trial comes to, by how the box did before and does now.
func TestGate(t *testing.T) {
	tests := []struct {
		name   string
		before func(w *world) // how it was
		now    func(w *world, after time.Duration)
		check  string // that fails the trial, "" when it is kept
		reason string
	}{
		{"all well", nil, nil, "", ""},
		{"takes a while to come up", nil, func(w *world, after time.Duration) {
			w.services[0].Ready = after > 3*time.Minute
		}, "", ""},
		{"a service that never gets ready", nil, func(w *world, _ time.Duration) {
			w.services[1] = manifest.Service{Name: "mqtt", State: "backoff", LastExit: "exit status 70"}
		}, CheckServices, "mqtt is not ready (backoff, last exit: exit status 70)"},
		{"a service that falls at times", nil, func(w *world, after time.Duration) {
			w.services[1].Restarts = min(crashLoop-1, int(after/(50*time.Second)))
		}, "", ""},
		{"a driver was missing before", func(w *world) { w.missing = []string{"foo"} }, func(w *world, _ time.Duration) { w.missing = []string{"foo"} }, "", ""},
		{"a broker that answers wrongly", nil, func(w *world, _ time.Duration) { w.canary = errors.New("offset 3 holds another") }, CheckCanary, "offset 3 holds another"},
		{"a connector that worked", nil, func(w *world, _ time.Duration) {
			w.reports["mqtt"] = manifest.Report{Summary: "cannot reach the broker"}
		}, CheckService + "mqtt", "cannot reach the broker"},
		{"a connector that did not work before", func(w *world) { w.reports["mqtt"] = manifest.Report{} }, func(w *world, _ time.Duration) {
			w.reports["mqtt"] = manifest.Report{Summary: "cannot reach the broker"}
		}, "", ""},
		{"a connector that is gone", nil, func(w *world, _ time.Duration) { w.services = w.services[:1] }, CheckService + "mqtt", "does not have it"},
		{"a connector that is new and not well", func(w *world) { w.services = w.services[:1] }, func(w *world, _ time.Duration) {
			w.services = good().services
			w.reports["mqtt"] = manifest.Report{}
		}, "", ""},
		{"a radio without its network", nil, func(w *world, _ time.Duration) {
			w.reports["mqtt"] = manifest.Report{Outside: true, Summary: "no network of the profile is in reach"}
		}, CheckReach + "mqtt", "no network of the profile is in reach"},
		{"a radio whose network comes back", nil, func(w *world, after time.Duration) {
			if w.reports["mqtt"] = good().reports["mqtt"]; after < 5*time.Minute {
				w.reports["mqtt"] = manifest.Report{Outside: true, Summary: "looking for networks"}
			}
		}, "", ""},
		{"the uplink is lost", nil, func(w *world, _ time.Duration) {
			w.reports["replicator"] = manifest.Report{OK: true, Links: []manifest.Link{{Name: "centre", Error: "dial: no route"}}}
		}, CheckLink + "centre", "is down: dial: no route"},
		{"the uplink was down before", func(w *world) { w.reports["replicator"].Links[0].Up = false }, func(w *world, _ time.Duration) {
			w.reports["replicator"].Links[0].Up = false
		}, "", ""},
		{"the source is lost", nil, func(w *world, _ time.Duration) { w.source = down }, CheckSource, "no route"},
		{"the source was lost before", func(w *world) { w.source = down }, func(w *world, _ time.Duration) { w.source = down }, "", ""},
		{"the source is away for a while", nil, func(w *world, after time.Duration) {
			if w.source = nil; after > 20*time.Second && after < 5*time.Minute {
				w.source = down
			}
		}, "", ""},
		{"never well for long", nil, func(w *world, after time.Duration) {
			if w.canary = nil; after%(40*time.Second) < 9*time.Second {
				w.canary = errors.New("not leader")
			}
		}, CheckCanary, "not leader"},
		{"init is silent", nil, func(w *world, _ time.Duration) { w.init = down }, CheckServices, "init cannot be asked"},
		{"no services", nil, func(w *world, _ time.Duration) { w.services = nil }, CheckServices, "declares no service"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := good()
				if tt.before != nil {
					tt.before(w)
				}
				base, err := Take(t.Context(), w)
				if err != nil {
					t.Fatal(err)
				}
				after := good()
				after.change = tt.now
				g := &Gate{Probe: after, Baseline: base, Settle: time.Minute, Limit: 10 * time.Minute, Every: 3 * time.Second, Log: slog.New(slog.DiscardHandler)}
				v, err := g.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(after.begin)
				if v.Good != (tt.check == "") || v.Check != tt.check || !strings.Contains(v.Reason, tt.reason) {
					t.Errorf("got good %v, check %q, reason %q; want check %q, reason %q", v.Good, v.Check, v.Reason, tt.check, tt.reason)
				}
				if v.Good && took < time.Minute || !v.Good && took < 10*time.Minute || took > 11*time.Minute {
					t.Errorf("decided after %s", took)
				}
			})
		})
	}
}

// TestHopeless: what nothing mends ends a trial long before its limit.
func TestHopeless(t *testing.T) {
	tests := []struct {
		name          string
		now           func(w *world, after time.Duration)
		check, reason string
	}{
		{"a crash loop that is ready at every look", func(w *world, after time.Duration) {
			w.services[1] = manifest.Service{Name: "mqtt", State: "running", Ready: true, Restarts: int(after / (20 * time.Second)), LastExit: "exit status 70"}
		}, CheckServices, "mqtt crashes again and again: restarted 5 times since the boot (last exit: exit status 70)"},
		{"a service that has failed for good", func(w *world, _ time.Duration) {
			w.services[1] = manifest.Service{Name: "mqtt", State: "failed", LastExit: "exit status 2"}
		}, CheckServices, "mqtt has failed for good (last exit: exit status 2)"},
		{"a broker that lies", func(w *world, _ time.Duration) {
			w.canary = fmt.Errorf("%w: offset 3 holds another", ErrWrong)
		}, CheckCanary, "the broker is wrong: offset 3 holds another"},
		{"a driver is gone", func(w *world, _ time.Duration) { w.missing = []string{"virtio_net"} }, CheckModules, "cannot now: virtio_net"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base, err := Take(t.Context(), good())
				if err != nil {
					t.Fatal(err)
				}
				w := good()
				w.change = tt.now
				g := &Gate{Probe: w, Baseline: base, Settle: time.Minute, Limit: 10 * time.Minute, Every: 3 * time.Second, Log: slog.New(slog.DiscardHandler)}
				v, err := g.Run(t.Context())
				if err != nil || v.Good || v.Check != tt.check || !strings.Contains(v.Reason, tt.reason) {
					t.Errorf("got %+v, %v; want check %q, reason %q", v, err, tt.check, tt.reason)
				}
				if took := time.Since(w.begin); took > 2*time.Minute {
					t.Errorf("decided after %s", took)
				}
			})
		})
	}
}

func TestGateEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := &Gate{Probe: good(), Settle: time.Hour, Limit: time.Hour, Every: time.Hour, Log: slog.New(slog.DiscardHandler)}
	if _, err := g.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
}

// TestCanary: through a broker that works, one that loses what it has
// acknowledged, and one that is not there.
func TestCanary(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	canary := Canary{Broker: c.ListenAddrs(), Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		if err := canary.Fly(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	hung := make(chan error, 1)
	go func() { hung <- canary.Fly(ctx) }()
	select {
	case err := <-hung:
		if err == nil || !strings.Contains(err.Error(), "produce with acks=all: no answer") {
			t.Errorf("a broker that takes a record and says nothing: got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a broker that takes a record and says nothing: the canary has not come back after ten seconds")
	}
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("lost"), true
	})
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := canary.Fly(ctx); err == nil || !strings.Contains(err.Error(), "consume what was acknowledged") {
		t.Errorf("a broker that serves nothing: got %v", err)
	}
	c.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := canary.Fly(ctx); err == nil {
		t.Error("no broker: got no error")
	}
}
