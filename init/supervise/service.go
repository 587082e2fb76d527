//go:build linux

package supervise

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

const (
	// beatEvery is how often an idle service loop shows that it is alive.
	beatEvery = 2 * time.Second
	// stopWait is how long a service, when all stop, waits for those that stop
	// before it. It bounds the end of a chain of them to this and the longest
	// TimeoutStopSec, rather than to the sum of all.
	stopWait = 10 * time.Second
)

// service drives one machine. run is its only goroutine; mu guards what
// Status reads.
type service struct {
	unit   *manifest.Unit
	log    *slog.Logger
	launch func(context.Context) (*process, error)
	notes  <-chan note
	// onReady is Config.Ready until it was called.
	onReady func(service string, pid int)
	renew   chan struct{} // holds one wish to be started anew

	// The first start waits for these, the stop for those.
	startAfter, stopAfter []<-chan struct{}

	ready   chan struct{} // closed when first ready
	settled chan struct{} // closed when first ready or first failed
	done    chan struct{} // closed when run has returned

	// beat is the last turn of the loop, with its monotonic reading: a step
	// of the clock must neither age a sign of life nor renew it.
	beat atomic.Pointer[time.Time]

	mu     sync.Mutex
	m      machine
	proc   *process // nil without a process
	status string   // STATUS=
}

func newService(u *manifest.Unit, log *slog.Logger) *service {
	return &service{
		unit: u, log: log,
		ready: make(chan struct{}), settled: make(chan struct{}), done: make(chan struct{}),
		renew: make(chan struct{}, 1),
		m:     machine{unit: u, state: Stopped, since: time.Now()},
	}
}

// run supervises until ctx has ended and the service has stopped.
func (s *service) run(ctx context.Context) {
	defer close(s.done)
	work := context.WithoutCancel(ctx) // stopping is still work
	timer := time.NewTimer(beatEvery)
	defer timer.Stop()
	startAfter, stopAfter := s.startAfter, s.stopAfter
	started, stopping, stopAsked := false, ctx.Done(), false
	var hurry <-chan time.Time
	for {
		s.live()
		if !started && len(startAfter) == 0 {
			started = true
			s.apply(work, event{kind: start})
		}
		if stopAsked && len(stopAfter) == 0 && !s.m.ending {
			s.apply(work, event{kind: stop})
		}
		if s.m.over() {
			return
		}
		timer.Reset(s.patience())
		select {
		case <-timer.C:
			s.apply(work, event{kind: tick})
		case <-stopping:
			stopping, stopAsked, hurry = nil, true, time.After(stopWait)
		case <-hurry:
			hurry, stopAfter = nil, nil
		case <-first(startAfter):
			startAfter = startAfter[1:]
		case <-when(stopAsked, first(stopAfter)):
			stopAfter = stopAfter[1:]
		case n := <-s.notes:
			s.note(work, n)
		case <-s.renew:
			if started { // otherwise the first start is still to come
				s.apply(work, event{kind: renew})
			}
		case exit := <-s.exit():
			s.collect(work, exit)
		}
	}
}

// live gives a sign of life.
func (s *service) live() {
	now := time.Now()
	s.beat.Store(&now)
}

// patience is how long the loop may sleep.
func (s *service) patience() time.Duration {
	if s.m.deadline.IsZero() {
		return beatEvery
	}
	return max(0, min(beatEvery, time.Until(s.m.deadline)))
}

func first(cs []<-chan struct{}) <-chan struct{} {
	if len(cs) == 0 {
		return nil
	}
	return cs[0]
}

func when(cond bool, c <-chan struct{}) <-chan struct{} {
	if !cond {
		return nil
	}
	return c
}

func (s *service) exit() <-chan reap.Exit {
	if s.proc == nil {
		return nil
	}
	return s.proc.exit
}

// collect follows the end of the main process.
func (s *service) collect(ctx context.Context, exit reap.Exit) {
	oom := s.proc.finish()
	s.setProcess(nil)
	s.apply(ctx, event{kind: exited, exit: exit, oom: oom})
}

// note turns a message into events, if its sender belongs to the service.
func (s *service) note(ctx context.Context, n note) {
	if s.proc == nil || n.pid != s.proc.pid && !s.proc.group.holds(n.pid) {
		s.log.Warn("notify message of a foreign process dropped", "service", s.unit.Name, "pid", n.pid)
		return
	}
	if n.stopping && n.status == nil {
		text := "stopping"
		n.status = &text
	}
	if n.status != nil {
		s.mu.Lock()
		s.status = *n.status
		s.mu.Unlock()
	}
	for _, e := range []struct {
		happened bool
		event    event
	}{
		{n.extend > 0, event{kind: extend, extend: n.extend}},
		{n.ready, event{kind: ready}},
		{n.keepalive, event{kind: keepalive}},
		{n.trigger, event{kind: trigger}},
	} {
		if e.happened {
			s.apply(ctx, e.event)
		}
	}
}

// apply steps the machine and carries out its action.
func (s *service) apply(ctx context.Context, e event) {
	old := s.m
	m, todo := old.step(e, time.Now())
	s.mu.Lock()
	s.m = m
	s.mu.Unlock()
	if m.state != old.state {
		s.announce(m)
	}
	switch todo {
	case spawn:
		s.spawn(ctx)
	case term:
		s.send(unix.SIGTERM)
	case abort:
		s.send(unix.SIGABRT)
	case kill:
		if err := s.proc.group.kill(); err != nil {
			s.log.Warn("kill service", "service", s.unit.Name, "err", err)
		}
		s.send(unix.SIGKILL)
	}
}

func (s *service) spawn(ctx context.Context) {
	p, err := s.launch(ctx)
	if err != nil {
		s.apply(ctx, event{kind: spawnFailed, err: err})
		return
	}
	s.setProcess(p)
	s.apply(ctx, event{kind: spawned})
}

func (s *service) setProcess(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc, s.status = p, ""
}

func (s *service) send(signal os.Signal) {
	if err := s.proc.signal(signal); err != nil && !gone(err) {
		s.log.Warn("signal service", "service", s.unit.Name, "signal", signal, "err", err)
	}
}

// announce logs a state in the words that tests and people wait for, and
// opens the gates of those who wait.
func (s *service) announce(m machine) {
	message := "service " + s.unit.Name + ": " + string(m.state)
	switch m.state {
	case Backoff:
		if m.renewing {
			s.log.Info("service "+s.unit.Name+": is started anew", "last_exit", m.lastExit)
			break
		}
		s.log.Warn(message, "last_exit", m.lastExit, "next_start_in", m.deadline.Sub(m.since).String())
	case Failed:
		s.log.Error(message, "last_exit", m.lastExit)
	case Aborting, Killing:
		s.log.Warn(message, "cause", m.cause)
	case Stopping:
		if m.cause != "" {
			s.log.Warn(message, "cause", m.cause)
			break
		}
		s.log.Info(message)
	default:
		s.log.Info(message)
	}
	switch m.state {
	case Running:
		if s.onReady != nil && s.proc != nil {
			s.onReady(s.unit.Name, s.proc.pid)
			s.onReady = nil
		}
		open(s.ready)
		open(s.settled)
	case Backoff, Failed, Stopped:
		open(s.settled)
	}
}

// open closes a gate that only the service's own goroutine closes.
func open(gate chan struct{}) {
	select {
	case <-gate:
	default:
		close(gate)
	}
}

// snapshot is the service as status pages show it.
func (s *service) snapshot() manifest.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := manifest.Service{
		Name: s.unit.Name, State: string(s.m.state), Ready: s.m.state == Running,
		Status: s.status, Restarts: s.m.restarts, Since: s.m.since, LastExit: s.m.lastExit,
	}
	if s.proc != nil {
		out.PID = s.proc.pid
		out.Memory = s.proc.group.memory()
	}
	return out
}
