//go:build linux

package supervise

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

// State of a service.
//
//	            start             ready (simple: spawned)
//	stopped ───────────► starting ──────────────────────► running
//	                      ▲   │ no READY=1 in time          │  │ watchdog
//	          after delay │   │ stop                   stop │  │
//	                      │   ▼                             │  ▼
//	                   backoff   stopping ◄─────────────────┘ aborting
//	                                 │ TimeoutStopSec            │ abortGrace
//	                                 └────────► killing ◄────────┘
//
// When the process ends, in whatever state: to backoff if it is to be started
// again, to failed if it ended badly and is not, else to stopped. A service that
// is renewed goes by stopping and, at once, backoff. A stop that
// is asked for leads to stopped from everywhere; failed is then only reached
// by a process that outlives KILL.
type State string

const (
	Stopped  State = "stopped"  // no process: not started yet, or ended well
	Starting State = "starting" // a process that is not ready yet
	Running  State = "running"  // ready
	Stopping State = "stopping" // TERM was sent
	Aborting State = "aborting" // the watchdog was missed, ABRT was sent
	Killing  State = "killing"  // KILL was sent
	Backoff  State = "backoff"  // no process: waits to be started again
	Failed   State = "failed"   // no process: ended badly, Restart= forbids another
)

const (
	// abortGrace is what a hung process gets to print its stacks.
	abortGrace = 5 * time.Second
	// killGrace is how long KILL may take; a process in uninterruptible
	// sleep may take for ever.
	killGrace = 5 * time.Second
	// killTries bounds the wait at shutdown.
	killTries = 3
)

type kind int

const (
	start       kind = iota
	spawned          // the process runs
	spawnFailed      // there is no process, event.err says why
	ready
	keepalive
	trigger // WATCHDOG=trigger: the service itself says that it hangs
	extend  // EXTEND_TIMEOUT_USEC
	exited
	stop
	renew // to be started anew, which is no failure of its own
	tick  // the deadline may have passed
)

// event is what happens to a service.
type event struct {
	kind   kind
	err    error         // of spawnFailed
	exit   reap.Exit     // of exited
	oom    bool          // of exited: the kernel killed it for want of memory
	extend time.Duration // of extend
}

// action is what the machine wants done.
type action int

const (
	none action = iota
	spawn
	term
	abort
	kill
)

// machine is one service between two events.
type machine struct {
	unit  *manifest.Unit
	state State
	since time.Time // of state
	// deadline ends state, or for running is when the watchdog bites. Zero
	// is never.
	deadline time.Time

	ending   bool      // stop was asked for, nothing is started again
	renewing bool      // the next start was asked for
	cause    string    // why init ends the present process; "" if it does not
	readyAt  time.Time // of the present process; zero before
	failures int       // ends in a row, for the delay
	restarts int
	kills    int // KILLs sent to the present process
	lastExit string
}

// step is the whole of the state machine.
func (m machine) step(e event, now time.Time) (machine, action) {
	switch e.kind {
	case start:
		if m.state == Stopped && !m.ending {
			return m.begin(now)
		}
	case spawned:
		if m.state == Starting && m.unit.Type == manifest.Simple {
			return m.run(now), none
		}
	case ready:
		if m.state == Starting {
			return m.run(now), none
		}
	case keepalive:
		if m.state == Running {
			m.deadline = after(now, m.unit.Watchdog)
		}
	case trigger:
		if m.state == Running && m.unit.Watchdog > 0 {
			return m.expire(now)
		}
	case extend:
		if m.state == Starting || m.state == Stopping {
			if later := now.Add(e.extend); !m.deadline.IsZero() && later.After(m.deadline) {
				m.deadline = later
			}
		}
	case exited, spawnFailed:
		return m.end(e, now), none
	case stop:
		m.ending = true
		switch m.state {
		case Starting, Running:
			return m.to(Stopping, now, m.unit.TimeoutStop), term
		case Backoff:
			return m.to(Stopped, now, 0), none
		}
	case renew:
		return m.renew(now)
	case tick:
		if !m.deadline.IsZero() && !now.Before(m.deadline) {
			return m.expire(now)
		}
	}
	return m, none
}

// renew has the next process come now. One that is being ended is followed by
// it anyway.
func (m machine) renew(now time.Time) (machine, action) {
	switch {
	case m.ending:
	case m.state == Starting, m.state == Running:
		m.renewing = true
		return m.to(Stopping, now, m.unit.TimeoutStop), term
	case m.state == Backoff, m.state == Failed, m.state == Stopped:
		m.failures = 0
		return m.begin(now)
	}
	return m, none
}

// expire is the deadline of the present state.
func (m machine) expire(now time.Time) (machine, action) {
	switch m.state {
	case Starting:
		m.cause = fmt.Sprintf("not ready within %v", m.unit.TimeoutStart)
		return m.to(Stopping, now, m.unit.TimeoutStop), term
	case Running:
		m.cause = "watchdog"
		return m.to(Aborting, now, abortGrace), abort
	case Stopping:
		if m.cause == "" {
			m.cause = fmt.Sprintf("did not stop within %v", m.unit.TimeoutStop)
		}
		m.kills = 1
		return m.to(Killing, now, killGrace), kill
	case Aborting:
		m.kills = 1
		return m.to(Killing, now, killGrace), kill
	case Killing:
		if m.ending && m.kills >= killTries {
			m.lastExit = "outlives KILL, left behind"
			return m.to(Failed, now, 0), none
		}
		m.kills++
		m.deadline = now.Add(killGrace)
		return m, kill
	case Backoff:
		if !m.renewing {
			m.restarts++
		}
		return m.begin(now)
	}
	m.deadline = time.Time{}
	return m, none
}

func (m machine) begin(now time.Time) (machine, action) {
	m.cause, m.readyAt, m.kills, m.renewing = "", time.Time{}, 0, false
	return m.to(Starting, now, m.unit.TimeoutStart), spawn
}

func (m machine) run(now time.Time) machine {
	m.readyAt = now
	return m.to(Running, now, m.unit.Watchdog)
}

// end decides what follows the end of a process.
func (m machine) end(e event, now time.Time) machine {
	if !m.alive() {
		return m
	}
	bad := e.kind == spawnFailed || !endedWell(e.exit) || m.cause != ""
	m.lastExit = m.describe(e)
	if !m.readyAt.IsZero() && now.Sub(m.readyAt) >= m.unit.RestartMaxDelay {
		m.failures = 0 // it ran well for long
	}
	again := m.unit.Restart == manifest.RestartAlways || m.unit.Restart == manifest.RestartOnFailure && bad
	switch {
	case m.ending:
		return m.to(Stopped, now, 0)
	case m.renewing:
		m = m.to(Backoff, now, 0)
		m.deadline = now
		return m
	case again:
		delay := backoff(m.unit.RestartDelay, m.unit.RestartMaxDelay, m.failures)
		m.failures++
		m = m.to(Backoff, now, 0)
		m.deadline = now.Add(delay) // a delay of 0 is now, not never
		return m
	case bad:
		return m.to(Failed, now, 0)
	}
	return m.to(Stopped, now, 0)
}

// alive says whether the state has a process.
func (m machine) alive() bool {
	switch m.state {
	case Starting, Running, Stopping, Aborting, Killing:
		return true
	}
	return false
}

// over says that nothing will happen any more.
func (m machine) over() bool { return m.ending && (m.state == Stopped || m.state == Failed) }

func (m machine) to(s State, now time.Time, limit time.Duration) machine {
	m.state, m.since, m.deadline = s, now, after(now, limit)
	return m
}

func (m machine) describe(e event) string {
	switch {
	case e.kind == spawnFailed:
		return e.err.Error()
	case e.oom:
		return fmt.Sprintf("killed: out of memory (limit %s)", sizeString(m.unit.MemoryMax))
	case m.cause != "":
		return fmt.Sprintf("%v (%s)", e.exit, m.cause)
	}
	return e.exit.String()
}

// endedWell counts the signals that ask a process to end as an end by its own
// will, as systemd.service(5) does under SuccessExitStatus.
func endedWell(e reap.Exit) bool {
	if e.Status.Signaled() {
		switch e.Status.Signal() {
		case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE:
			return true
		}
	}
	return e.Clean()
}

// backoff doubles first with every failure in a row, up to most.
func backoff(first, most time.Duration, failures int) time.Duration {
	delay := first
	for range failures {
		if delay >= most/2 {
			return most
		}
		delay *= 2
	}
	return min(delay, most)
}

// after is the time of a limit; no limit is the zero time.
func after(now time.Time, limit time.Duration) time.Time {
	if limit <= 0 {
		return time.Time{}
	}
	return now.Add(limit)
}

func sizeString(n int64) string {
	switch {
	case n == 0:
		return "of the box"
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dM", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%dK", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
