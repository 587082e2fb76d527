// Package console is the status page of the box: one page that a technician
// understands, /healthz for machines, /metrics of every service merged, and
// everything as JSON. It asks init and the services over their unix sockets
// and knows nothing that they do not say.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/manifest"
)

// Config is what the console is given. Listener is required.
type Config struct {
	Listener   net.Listener          // browsers connect here; closed by Run
	InitSocket string                // unix socket of the box's init; "" where there is none (a laptop)
	RunDir     string                // the services are at RunDir/SERVICE/status.sock
	Services   []string              // services to look for beside those that init declares
	Token      string                // that update verbs need; "" turns them off
	Telemetry  *Telemetry            // nil writes none
	Registerer prometheus.Registerer // default: metrics are kept and not exported
	Log        *slog.Logger          // default: discarded
}

// Server is the console. Make it with New, then call Run once.
type Server struct {
	cfg     Config
	http    *http.Server
	gather  *collector
	updates *updates
	links   *links
	ready   chan struct{}
	serving atomic.Bool
	pages   *prometheus.CounterVec
}

// New checks the configuration and the page. It owns the listener from here
// on only if there is no error.
func New(cfg Config) (*Server, error) {
	if cfg.Listener == nil {
		return nil, errors.New("console config: no listener")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if err := CheckToken(cfg.Token); err != nil {
		return nil, fmt.Errorf("console config: %v", err)
	}
	s := &Server{
		cfg:     cfg,
		gather:  newCollector(cfg.InitSocket, cfg.RunDir, cfg.Services),
		updates: newUpdates(filepath.Join(cfg.RunDir, updater, manifest.UpdateSock), cfg.Token, cfg.Log),
		ready:   make(chan struct{}),
		pages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "wayside_console_requests_total", Help: "Requests answered, by page.",
		}, []string{"page"}),
	}
	s.links = newLinks(cfg.RunDir, s.updates, cfg.Log)
	if err := cfg.Registerer.Register(s.pages); err != nil {
		return nil, fmt.Errorf("register console metrics: %v", err)
	}
	policy, err := contentPolicy()
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.handler(policy),
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug), // what browsers do wrong
		ReadHeaderTimeout: 5 * time.Second,
	}
	return s, nil
}

// Run serves until ctx ends. On return nothing of the console runs.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	s.serving.Store(true)
	defer s.serving.Store(false)
	go func() { ended <- s.http.Serve(s.cfg.Listener) }()
	if t := s.cfg.Telemetry; t != nil {
		ctx, cancel := context.WithCancel(ctx)
		told := make(chan struct{})
		go func() { defer close(told); s.tell(ctx, *t) }()
		defer func() { cancel(); <-told }()
	}
	close(s.ready)
	select {
	case err := <-ended:
		return fmt.Errorf("serve pages: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		s.http.Close()
	}
	<-ended
	return nil
}

// Ready is closed when requests are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// stuckAfter is far beyond every time-out of one look at the box.
const stuckAfter = 30 * time.Second

// Healthy is nil while pages are served and a look at the box comes to an end.
func (s *Server) Healthy() error {
	if !s.serving.Load() {
		return errors.New("console does not serve")
	}
	if d := s.gather.looking(); d > stuckAfter {
		return fmt.Errorf("a look at the box has taken %s", d.Round(time.Second))
	}
	return nil
}

// Status is the console's own report.
func (s *Server) Status() manifest.Report {
	return manifest.Report{
		Name: "console", OK: s.serving.Load(),
		Summary: "page on " + s.cfg.Listener.Addr().String(),
	}
}
