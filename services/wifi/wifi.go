// Package wifi keeps the box in the wireless networks of its profile: it runs
// wpa_supplicant, tells it what the profile says, and tells the status page
// what the radio is doing.
package wifi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

const (
	// Program is where Debian has the supplicant, on boards that have Wi-Fi.
	Program = "/usr/sbin/wpa_supplicant"

	askEvery   = 2 * time.Second
	firstRetry = time.Second // after which what did not work is tried again
	lastRetry  = 30 * time.Second
	stopWait   = 5 * time.Second // from TERM to KILL
)

// Config is what a Service works with.
type Config struct {
	Wifi       site.Wifi
	Secrets    string // folder of the files that Wifi names
	Dir        string // of its own, not kept: configuration and control socket
	Program    string // default Program
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Service is the supplicant under our care.
type Service struct {
	cfg   Config
	sys   string        // /sys/class/net
	retry time.Duration // firstRetry
	every time.Duration // askEvery
	ready chan struct{}

	mu   sync.Mutex
	now  state
	beat time.Time // when the loop last turned
}

// New prepares a Service; nothing runs before Run.
func New(cfg Config) (*Service, error) {
	if cfg.Program == "" {
		cfg.Program = Program
	}
	s := &Service{cfg: cfg, sys: "/sys/class/net", retry: firstRetry, every: askEvery, ready: make(chan struct{}), beat: time.Now()}
	for name, value := range map[string]func(state) float64{
		"wayside_wifi_connected":  func(n state) float64 { return map[bool]float64{true: 1}[n.connected()] },
		"wayside_wifi_signal_dbm": func(n state) float64 { return float64(n.signal) },
	} {
		g := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help[name]}, func() float64 { return value(s.state()) })
		if err := cfg.Registerer.Register(g); err != nil {
			return nil, fmt.Errorf("register metrics: %v", err)
		}
	}
	return s, nil
}

var help = map[string]string{
	"wayside_wifi_connected":  "1 while the radio is in a network.",
	"wayside_wifi_signal_dbm": "Strength of the network's signal, 0 without one.",
}

// Run keeps the supplicant running until ctx ends. It is ready at once: a box
// out of reach of its network is not a box that failed to start.
func (s *Service) Run(ctx context.Context) error {
	close(s.ready)
	delay := s.retry
	for ctx.Err() == nil {
		began := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > lastRetry {
			delay = s.retry
		}
		if problem := err.Error(); problem != s.state().trouble {
			s.change(func(n *state) { *n = state{trouble: problem, unusable: n.unusable} })
			s.cfg.Log.Warn("wifi", "err", problem)
		}
		wait(ctx, delay, s.turn)
		delay = min(2*delay, lastRetry)
	}
	return nil
}

// once is one life of the supplicant. The error says how it ended.
func (s *Service) once(ctx context.Context) error {
	if _, err := os.Stat(s.cfg.Program); err != nil {
		return fmt.Errorf("%s is not in this image: the board has no Wi-Fi", filepath.Base(s.cfg.Program))
	}
	if _, err := os.Stat(filepath.Join(s.sys, s.cfg.Wifi.Interface)); err != nil {
		return fmt.Errorf("there is no radio %s: its driver or firmware is missing, or it is not plugged in", s.cfg.Wifi.Interface)
	}
	// Who may read our status must not steer the radio: the supplicant lets
	// the group at its socket, in a folder that is its user's alone.
	control := filepath.Join(s.cfg.Dir, "control")
	if err := os.MkdirAll(control, 0o700); err != nil {
		return fmt.Errorf("make the folder of the supplicant's socket: %v", err)
	}
	text, unusable := configuration(s.cfg.Wifi, s.cfg.Secrets, control)
	if len(unusable) > 0 && len(unusable) == len(s.cfg.Wifi.Networks) {
		return errors.New(strings.Join(unusable, "; "))
	}
	s.leaveOut(unusable)
	file := filepath.Join(s.cfg.Dir, "supplicant.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the supplicant's configuration: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.cfg.Program, "-i", s.cfg.Wifi.Interface, "-D", "nl80211", "-c", file)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWait
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start wpa_supplicant: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	watched := s.watch(ctx, filepath.Join(control, s.cfg.Wifi.Interface), ended)
	cancel()
	if errors.Is(watched, errEnded) {
		return watched
	}
	<-ended
	return watched
}

// leaveOut tells of networks that cannot be joined, once.
func (s *Service) leaveOut(unusable []string) {
	text := strings.Join(unusable, "; ")
	if text != "" && text != s.state().unusable {
		s.cfg.Log.Warn("wifi: left out", "err", text)
	}
	s.change(func(n *state) { n.unusable = text })
}

// turn notes that the loop is alive.
func (s *Service) turn() {
	s.mu.Lock()
	s.beat = time.Now()
	s.mu.Unlock()
}

func (s *Service) state() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// change alters the state and logs what a person would see of it.
func (s *Service) change(do func(*state)) {
	s.mu.Lock()
	before := s.now.headline()
	do(&s.now)
	after := s.now.headline()
	s.mu.Unlock()
	if before != after {
		s.cfg.Log.Info("wifi: " + after)
	}
}

// Ready is closed when the service runs.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// stuckAfter is far beyond every time-out of a turn.
const stuckAfter = time.Minute

// Healthy is nil while the service looks after the supplicant.
func (s *Service) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := time.Since(s.beat); d > stuckAfter {
		return fmt.Errorf("wifi has not looked at the supplicant for %s", d.Round(time.Second))
	}
	return nil
}

// Status is what the page shows.
func (s *Service) Status() manifest.Report {
	n := s.state()
	r := manifest.Report{Name: "wifi", OK: n.connected(), Outside: !n.connected() && n.trouble == "", Summary: n.headline()}
	for _, f := range []manifest.Fact{{Name: "Radio", Value: s.cfg.Wifi.Interface}, {Name: "Country", Value: s.cfg.Wifi.Country}} {
		r.Facts = append(r.Facts, f)
	}
	return n.facts(r)
}

// wait sleeps, and tells at times that it does.
func wait(ctx context.Context, d time.Duration, turn func()) {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(firstRetry)
	defer tick.Stop()
	for {
		turn()
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}
