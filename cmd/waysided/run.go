package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/waysideos/wayside/services/manifest"
)

// service is what every service of the box is.
type service interface {
	// Run blocks until ctx ends or the service cannot go on; on return
	// nothing of it runs.
	Run(ctx context.Context) error
	Ready() <-chan struct{}  // closed when it serves
	Healthy() error          // nil while it makes progress
	Status() manifest.Report // what it says of itself
}

// options is how a service is run.
type options struct {
	env      environment
	log      *slog.Logger
	registry *prometheus.Registry
	status   string // path of its status socket, "" for none
	announce string // printed on stdout when it is ready
}

// statusEvery is how often the supervisor and the page hear something new.
const statusEvery = 2 * time.Second

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// runService runs svc until ctx ends, TERM or INT arrives, or it fails. A
// second signal kills.
func runService(ctx context.Context, name string, svc service, opts options) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	if opts.status != "" {
		srv, err := serveStatus(opts.status, svc, opts.registry, opts.log)
		if err != nil {
			return err
		}
		defer srv.close()
	}
	letGoOfStart()
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	err := attend(ctx, svc, opts, ended)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", name, err)
	}
	opts.log.Info("stopped")
	return nil
}

// attend speaks sd_notify for svc until it has ended (sd_notify(3),
// sd_watchdog_enabled(3)). A Healthy that never returns stops the keepalives
// as surely as one that fails.
func attend(ctx context.Context, svc service, opts options, ended <-chan error) error {
	var (
		ready, stopping = svc.Ready(), ctx.Done()
		told            statusText
		keepalive, test <-chan time.Time
		hung            bool
	)
	status := time.NewTicker(statusEvery)
	defer status.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ready:
			ready = nil
			io.WriteString(opts.env.stdout, opts.announce)
			opts.env.notify(strings.TrimSpace("READY=1\n" + told.next(svc)))
			letGoOfStart()
			if opts.env.watchdog > 0 {
				t := time.NewTicker(opts.env.watchdog / 2)
				defer t.Stop()
				keepalive = t.C
			}
			if opts.env.test != "" {
				test = time.After(testMoment)
			}
		case <-status.C:
			if s := told.next(svc); s != "" {
				opts.env.notify(s)
			}
		case <-keepalive:
			if err := svc.Healthy(); err != nil || hung {
				opts.log.Error("not healthy, the watchdog is not fed", "error", err)
				continue
			}
			opts.env.notify("WATCHDOG=1")
		case <-test:
			hung = runTest(opts)
		case <-stopping:
			stopping = nil
			opts.log.Info("stopping")
			opts.env.notify("STOPPING=1")
		}
	}
}

// runTest does what the test hooks (environment.go) ask for and says whether to play dead.
func runTest(opts options) (hang bool) {
	opts.log.Warn("test hook", "do", opts.env.test)
	if opts.env.test == testCrash || opts.env.test == testCrashLoop {
		os.Exit(testExit)
	}
	return opts.env.test == testHang
}

// statusText remembers the last summary that was sent.
type statusText string

// next returns the STATUS= message if the summary has changed, else "".
func (t *statusText) next(svc service) string {
	// A message is lines; a summary is one of them.
	s := strings.Join(strings.Fields(svc.Status().Summary), " ")
	if s == string(*t) {
		return ""
	}
	*t = statusText(s)
	return "STATUS=" + s
}
