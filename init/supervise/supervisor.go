//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

// Reaper starts processes and tells their end; *reap.Reaper is one.
type Reaper interface {
	Start(cmd *exec.Cmd) (pid int, exit <-chan reap.Exit, err error)
}

// Config is what a Supervisor works with.
type Config struct {
	Units   []manifest.Unit
	Sockets []manifest.Socket
	Reaper  Reaper
	// CgroupRoot is where cgroup2 is mounted; "" does without cgroups.
	CgroupRoot string
	Log        *slog.Logger
	Env        []string // KEY=value, the environment every service gets
	// FirstEnv is by service what only its first start gets besides.
	FirstEnv map[string][]string
	EachEnv  map[string][]string // likewise, what every start gets

	// Ready is called when a service is ready for the first time, before those
	// that wait for it start. It must not block; nil is not called.
	Ready func(service string, pid int)

	// Guard is deferred in every goroutine, with its purpose: it recovers from
	// a panic, which would end the process. nil lets panics pass.
	Guard func(what string)

	RunDir      string // holds notify/; default manifest.RunDir
	StateRoot   string // of StateDirectory; default /var/lib
	RuntimeRoot string // of RuntimeDirectory; default /run
}

// Supervisor runs a set of services.
type Supervisor struct {
	cfg      Config
	services []*service // in order of start
	launch   []*launcher
	sockets  map[string]*listening
	ready    chan struct{}

	mu      sync.Mutex
	running bool // between start and end of Run
}

// New checks that the units fit together. It touches nothing outside.
func New(cfg Config) (*Supervisor, error) {
	cfg.RunDir = orElse(cfg.RunDir, manifest.RunDir)
	cfg.StateRoot = orElse(cfg.StateRoot, "/var/lib")
	cfg.RuntimeRoot = orElse(cfg.RuntimeRoot, manifest.StatusEntry)
	if cfg.Guard == nil {
		cfg.Guard = func(string) {}
	}
	units, err := manifest.Order(cfg.Units)
	if err != nil {
		return nil, err
	}
	cfg.Units = units
	s := &Supervisor{cfg: cfg, ready: make(chan struct{}), sockets: map[string]*listening{}}
	for _, sock := range cfg.Sockets {
		s.sockets[sock.Name] = &listening{socket: sock}
	}
	byName := map[string]*service{}
	for i := range s.cfg.Units {
		u := &s.cfg.Units[i]
		l, err := s.launcher(u)
		if err != nil {
			return nil, err
		}
		sv := newService(u, cfg.Log)
		sv.launch, sv.onReady = l.launch, cfg.Ready
		if err := wire(sv, byName); err != nil {
			return nil, err
		}
		byName[u.Name] = sv
		s.services, s.launch = append(s.services, sv), append(s.launch, l)
	}
	return s, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (s *Supervisor) launcher(u *manifest.Unit) (*launcher, error) {
	l := &launcher{cfg: &s.cfg, unit: u, first: s.cfg.FirstEnv[u.Name], out: newOutput(u.Name, s.cfg.Log, time.Now())}
	for _, name := range u.Sockets {
		sock := s.sockets[name]
		if sock == nil {
			return nil, fmt.Errorf("service %s: socket %s is not declared", u.Name, name)
		}
		l.sockets = append(l.sockets, sock)
	}
	return l, nil
}

// wire makes sv wait for those before it, and those wait for sv at the stop.
// Units come in order, so all that sv names are in byName, or not there at
// all: After is then satisfied, Requires cannot be.
func wire(sv *service, byName map[string]*service) error {
	for _, name := range sv.unit.After {
		if dep := byName[name]; dep != nil {
			sv.startAfter = append(sv.startAfter, dep.settled)
			dep.stopAfter = append(dep.stopAfter, sv.done)
		}
	}
	for _, name := range sv.unit.Requires {
		dep := byName[name]
		if dep == nil {
			return fmt.Errorf("service %s: requires %s, which is not there", sv.unit.Name, name)
		}
		sv.startAfter = append(sv.startAfter, dep.ready)
		dep.stopAfter = append(dep.stopAfter, sv.done)
	}
	return nil
}

// Run starts all services in order and supervises them. When ctx ends it
// stops them in reverse order and returns when none runs. An error means that
// nothing could be started, or that a process outlived KILL. It may be called
// once.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		return err
	}
	receiving, stopReceiving := context.WithCancel(context.WithoutCancel(ctx))
	var receivers, loops sync.WaitGroup
	for i, sv := range s.services {
		if n := s.launch[i].notify; n != nil {
			notes := make(chan note)
			sv.notes = notes
			receivers.Go(func() {
				defer s.cfg.Guard("notify socket of " + sv.unit.Name)
				n.receive(receiving, s.cfg.Log, notes)
			})
		}
	}
	s.setRunning(true)
	for _, sv := range s.services {
		loops.Go(func() {
			defer s.cfg.Guard("supervision of " + sv.unit.Name)
			sv.run(ctx)
		})
	}
	loops.Go(func() {
		defer s.cfg.Guard("readiness of all services")
		s.awaitReady(ctx)
	})
	loops.Wait()
	s.setRunning(false)
	stopReceiving()
	s.close()
	receivers.Wait()
	return s.leftBehind()
}

// listen makes the notify sockets and the listeners. A listener that cannot
// be made now is tried again when its service starts.
func (s *Supervisor) listen(ctx context.Context) error {
	if err := s.openNotify(); err != nil {
		s.close()
		return err
	}
	for _, l := range s.launch {
		l.leaveMoved()
	}
	for _, sock := range s.cfg.Sockets {
		if _, err := s.sockets[sock.Name].open(ctx); err != nil {
			s.cfg.Log.Warn("listen", "err", err)
		}
	}
	s.openCgroups()
	return nil
}

// openNotify makes the notify sockets that are not there yet.
func (s *Supervisor) openNotify() error {
	dir := filepath.Join(s.cfg.RunDir, "notify")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of notify sockets: %v", err)
	}
	for _, l := range s.launch {
		if l.unit.Type != manifest.Notify || l.notify != nil {
			continue
		}
		n, err := listenNotify(filepath.Join(dir, l.unit.Name))
		if err != nil {
			return err
		}
		l.notify = n
	}
	return nil
}

// openCgroups prepares a cgroup for each service that has none yet. A service
// runs without one rather than not at all.
func (s *Supervisor) openCgroups() {
	if s.cfg.CgroupRoot == "" {
		return
	}
	parent, err := openCgroups(s.cfg.CgroupRoot)
	if err != nil {
		s.cfg.Log.Error("cgroups: limits are not enforced", "err", err)
	}
	if parent == "" {
		return
	}
	for _, l := range s.launch {
		if l.cgroup != nil {
			continue
		}
		if l.cgroup, err = openCgroup(parent, l.unit.Name); err != nil {
			s.cfg.Log.Error("cgroups: service is not limited", "err", err)
			continue
		}
		if err := l.cgroup.limit(l.unit); err != nil {
			s.cfg.Log.Error("cgroups: service is not limited", "service", l.unit.Name, "err", err)
		}
	}
}

func (s *Supervisor) close() {
	for _, l := range s.launch {
		l.ahead.end()
		if l.notify != nil {
			l.notify.conn.Close()
		}
		if l.cgroup != nil {
			l.cgroup.close()
		}
	}
	for _, sock := range s.sockets {
		sock.close()
	}
}

// leftBehind names the processes that are still there.
func (s *Supervisor) leftBehind() error {
	var out []error
	for _, sv := range s.services {
		if sv.proc != nil {
			out = append(out, fmt.Errorf("service %s: process %d %s", sv.unit.Name, sv.proc.pid, sv.m.lastExit))
		}
	}
	return errors.Join(out...)
}

func (s *Supervisor) setRunning(running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = running
	for _, sv := range s.services {
		sv.live()
	}
}

func (s *Supervisor) awaitReady(ctx context.Context) {
	for _, sv := range s.services {
		select {
		case <-sv.ready:
		case <-ctx.Done():
			return
		}
	}
	close(s.ready)
}

// Ready is closed when every service has been ready once.
func (s *Supervisor) Ready() <-chan struct{} { return s.ready }

// Heartbeat is the oldest sign of life of the loops that drive the services:
// at most a few seconds old while supervision works. It is zero before Run
// and now after it.
func (s *Supervisor) Heartbeat() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		if len(s.services) > 0 && s.services[0].beat.Load() == nil {
			return time.Time{}
		}
		return time.Now()
	}
	oldest := time.Now()
	for _, sv := range s.services {
		select {
		case <-sv.done:
			continue
		default:
		}
		if beat := *sv.beat.Load(); beat.Before(oldest) {
			oldest = beat
		}
	}
	return oldest
}

// Renew has a service be started anew, which counts as no restart of its own.
// Those that are not there, or have not been started yet, are passed over.
func (s *Supervisor) Renew(name string) {
	for _, sv := range s.services {
		if sv.unit.Name != name {
			continue
		}
		select {
		case sv.renew <- struct{}{}:
		default: // one is waiting already
		}
	}
}

// Move has the next process of a socket's service listen elsewhere; it says
// whether that is a change.
func (s *Supervisor) Move(socket string, listen []string) bool {
	l := s.sockets[socket]
	return l != nil && l.move(listen)
}

// Status returns all services in order of start.
func (s *Supervisor) Status() []manifest.Service {
	var out []manifest.Service
	for _, sv := range s.services {
		out = append(out, sv.snapshot())
	}
	return out
}

// Lines returns the last lines that a service printed, oldest first; nil for
// a name that is not there.
func (s *Supervisor) Lines(name string) []string {
	for _, l := range s.launch {
		if l.unit.Name == name {
			return l.out.lines()
		}
	}
	return nil
}
