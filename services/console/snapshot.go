package console

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// Snapshot is the whole box at one moment; the answer to GET /status.
type Snapshot struct {
	Time     time.Time     `json:"time"`
	OK       bool          `json:"ok"`      // as /healthz says
	Summary  string        `json:"summary"` // the page's headline
	Findings []Finding     `json:"findings"`
	Box      *manifest.Box `json:"box"` // null where there is no init, or it does not answer
	BoxError string        `json:"box_error,omitempty"`
	Services []Answer      `json:"services"`
	// Update is what the updater says; null where there is none.
	Update *manifest.Update `json:"update,omitempty"`
}

// Answer is what one service said of itself on its status socket.
type Answer struct {
	Name   string           `json:"name"`
	Report *manifest.Report `json:"report"` // null if it did not answer
	Error  string           `json:"error,omitempty"`
	absent bool             // it has no socket, or nobody serves it
}

// maxAge is how long a snapshot serves: a wall of browsers asks the services
// no more often than one.
const maxAge = time.Second

// collector looks at the box, one look at a time.
type collector struct {
	initSocket, runDir string
	services           []string
	began              atomic.Int64 // Unix nanoseconds; 0 when not looking

	mu   sync.Mutex
	last *Snapshot
}

func newCollector(initSocket, runDir string, services []string) *collector {
	return &collector{initSocket: initSocket, runDir: runDir, services: services}
}

func (c *collector) socket(service string) string {
	return filepath.Join(c.runDir, service, manifest.StatusSock)
}

func (c *collector) looking() time.Duration {
	if t := c.began.Load(); t != 0 {
		return time.Since(time.Unix(0, t))
	}
	return 0
}

// look returns a snapshot that is at most maxAge old. Callers must not change
// it. It does not take its caller's context: others wait for the same look.
func (c *collector) look() *Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil {
		if age := time.Since(c.last.Time); age >= 0 && age < maxAge {
			return c.last
		}
	}
	c.began.Store(time.Now().UnixNano())
	defer c.began.Store(0)
	c.last = c.collect(context.Background())
	return c.last
}

func (c *collector) collect(ctx context.Context) *Snapshot {
	s := &Snapshot{}
	if c.initSocket != "" {
		box := &manifest.Box{}
		if err := askJSON(ctx, c.initSocket, "/status", box); err != nil {
			s.BoxError = plain(err)
		} else {
			s.Box = box
		}
	}
	names := c.names(s.Box)
	s.Services = make([]Answer, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { s.Services[i] = c.askService(ctx, name) })
	}
	wg.Go(func() { s.Update = c.askUpdate(ctx) })
	wg.Wait()
	s.Time = time.Now()
	s.judge(c.initSocket != "")
	return s
}

// names are the services that init declares, in its order, then those of the
// configuration.
func (c *collector) names(box *manifest.Box) []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		// A name becomes a path: one component of it and no more.
		if name == "" || seen[name] || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
			return
		}
		seen[name] = true
		names = append(names, name)
	}
	if box != nil {
		for _, svc := range box.Services {
			add(svc.Name)
		}
	}
	for _, name := range c.services {
		add(name)
	}
	return names
}

func (c *collector) askService(ctx context.Context, name string) Answer {
	report := &manifest.Report{}
	err := askJSON(ctx, c.socket(name), "/status", report)
	if err != nil {
		gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
		return Answer{Name: name, Error: plain(err), absent: gone}
	}
	return Answer{Name: name, Report: report}
}

// plain says in words what commonly goes wrong on a unix socket.
func plain(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "not running"
	case errors.Is(err, context.DeadlineExceeded):
		return "does not answer"
	case errors.Is(err, fs.ErrPermission):
		return "may not be asked: " + err.Error()
	}
	return err.Error()
}
