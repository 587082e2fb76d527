//go:build linux

package supervise

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

// Exits by wait status: the low byte is the signal, the next the exit code.
var (
	exitOK     = reap.Exit{Status: 0}
	exitBad    = reap.Exit{Status: 1 << 8}
	exitTerm   = reap.Exit{Status: unix.WaitStatus(unix.SIGTERM)}
	exitAbort  = reap.Exit{Status: unix.WaitStatus(unix.SIGABRT)}
	exitKilled = reap.Exit{Status: unix.WaitStatus(unix.SIGKILL)}
)

func testUnit() *manifest.Unit {
	return &manifest.Unit{
		Name: "x", Type: manifest.Notify, Restart: manifest.RestartAlways,
		RestartDelay: time.Second, RestartMaxDelay: time.Minute,
		TimeoutStart: 20 * time.Second, TimeoutStop: 10 * time.Second, Watchdog: 30 * time.Second,
		MemoryMax: 64 << 20,
	}
}

// turn is one event and what it must lead to. after is the time since the
// turn before; in is the time to the new deadline, 0 for none.
type turn struct {
	after time.Duration
	event event
	state State
	do    action
	in    time.Duration
}

func play(t *testing.T, m machine, turns []turn) machine {
	t.Helper()
	now := time.Unix(1000, 0)
	for i, turn := range turns {
		now = now.Add(turn.after)
		var do action
		m, do = m.step(turn.event, now)
		in := time.Duration(0)
		if !m.deadline.IsZero() {
			in = m.deadline.Sub(now)
		}
		if m.state != turn.state || do != turn.do || in != turn.in {
			t.Fatalf("turn %d: got %s, action %d, deadline in %v; want %s, %d, %v",
				i, m.state, do, in, turn.state, turn.do, turn.in)
		}
	}
	return m
}

func TestMachine(t *testing.T) {
	const s = time.Second
	started := []turn{
		{0, event{kind: start}, Starting, spawn, 20 * s},
		{0, event{kind: spawned}, Starting, none, 20 * s},
	}
	running := append(started[:2:2], turn{2 * s, event{kind: ready}, Running, none, 30 * s})
	for _, tc := range []struct {
		name     string
		change   func(*manifest.Unit)
		turns    []turn
		lastExit string
		restarts int
		over     bool
	}{
		{"keepalives move the watchdog", nil, append(running[:3:3],
			turn{29 * s, event{kind: keepalive}, Running, none, 30 * s},
			turn{29 * s, event{kind: tick}, Running, none, 1 * s},
		), "", 0, false},
		{"a missed watchdog aborts, kills, restarts", nil, append(running[:3:3],
			turn{30 * s, event{kind: tick}, Aborting, abort, 5 * s},
			turn{1 * s, event{kind: keepalive}, Aborting, none, 4 * s},
			turn{4 * s, event{kind: tick}, Killing, kill, 5 * s},
			turn{0, event{kind: exited, exit: exitKilled}, Backoff, none, 1 * s},
			turn{1 * s, event{kind: tick}, Starting, spawn, 20 * s},
		), "signal: killed (watchdog)", 1, false},
		{"a service that aborts at the watchdog is not killed", nil, append(running[:3:3],
			turn{30 * s, event{kind: tick}, Aborting, abort, 5 * s},
			turn{0, event{kind: exited, exit: exitAbort}, Backoff, none, 1 * s},
		), "signal: aborted (watchdog)", 0, false},
		{"the service says itself that it hangs", nil, append(running[:3:3],
			turn{1 * s, event{kind: trigger}, Aborting, abort, 5 * s},
		), "", 0, false},
		{"no readiness in time is a failure even if it ends well", func(u *manifest.Unit) { u.Restart = manifest.RestartOnFailure },
			append(started[:2:2],
				turn{20 * s, event{kind: tick}, Stopping, term, 10 * s},
				turn{1 * s, event{kind: exited, exit: exitOK}, Backoff, none, 1 * s},
			), "exit status 0 (not ready within 20s)", 0, false},
		{"a start may be extended", nil, append(started[:2:2],
			turn{15 * s, event{kind: extend, extend: 40 * s}, Starting, none, 40 * s},
			turn{0, event{kind: extend, extend: 1 * s}, Starting, none, 40 * s},
			turn{39 * s, event{kind: ready}, Running, none, 30 * s},
		), "", 0, false},
		{"delays double up to the cap", func(u *manifest.Unit) { u.RestartMaxDelay = 3 * s },
			append(started[:2:2],
				turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 1 * s},
				turn{1 * s, event{kind: tick}, Starting, spawn, 20 * s},
				turn{0, event{kind: spawnFailed, err: errors.New("no such program")}, Backoff, none, 2 * s},
				turn{2 * s, event{kind: tick}, Starting, spawn, 20 * s},
				turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 3 * s},
				turn{3 * s, event{kind: tick}, Starting, spawn, 20 * s},
				turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 3 * s},
			), "exit status 1", 3, false},
		{"a good run makes the delay small again", nil, append(running[:3:3],
			turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 1 * s},
			turn{1 * s, event{kind: tick}, Starting, spawn, 20 * s},
			turn{0, event{kind: ready}, Running, none, 30 * s},
			turn{20 * s, event{kind: keepalive}, Running, none, 30 * s},
			turn{20 * s, event{kind: keepalive}, Running, none, 30 * s},
			turn{20 * s, event{kind: exited, exit: exitBad}, Backoff, none, 1 * s},
		), "exit status 1", 1, false},
		{"on-failure leaves a good end alone", func(u *manifest.Unit) { u.Restart = manifest.RestartOnFailure },
			append(running[:3:3], turn{0, event{kind: exited, exit: exitTerm}, Stopped, none, 0}),
			"signal: terminated", 0, false},
		{"no restart after a bad end is failed", func(u *manifest.Unit) { u.Restart = manifest.RestartNo },
			append(running[:3:3], turn{0, event{kind: exited, exit: exitBad}, Failed, none, 0}),
			"exit status 1", 0, false},
		{"out of memory is said", nil, append(running[:3:3],
			turn{0, event{kind: exited, exit: exitKilled, oom: true}, Backoff, none, 1 * s},
		), "killed: out of memory (limit 64M)", 0, false},
		{"stop is TERM, then KILL", nil, append(running[:3:3],
			turn{0, event{kind: stop}, Stopping, term, 10 * s},
			turn{10 * s, event{kind: tick}, Killing, kill, 5 * s},
			turn{0, event{kind: exited, exit: exitKilled}, Stopped, none, 0},
		), "signal: killed (did not stop within 10s)", 0, true},
		{"stop ends a backoff", nil, append(running[:3:3],
			turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 1 * s},
			turn{0, event{kind: stop}, Stopped, none, 0},
			turn{1 * s, event{kind: tick}, Stopped, none, 0},
			turn{0, event{kind: start}, Stopped, none, 0},
		), "exit status 1", 0, true},
		{"stop while starting, readiness comes too late", nil, append(started[:2:2],
			turn{0, event{kind: stop}, Stopping, term, 10 * s},
			turn{0, event{kind: ready}, Stopping, none, 10 * s},
			turn{0, event{kind: exited, exit: exitOK}, Stopped, none, 0},
		), "exit status 0", 0, true},
		{"a process that outlives KILL is left behind at a stop", nil, append(running[:3:3],
			turn{0, event{kind: stop}, Stopping, term, 10 * s},
			turn{10 * s, event{kind: tick}, Killing, kill, 5 * s},
			turn{5 * s, event{kind: tick}, Killing, kill, 5 * s},
			turn{5 * s, event{kind: tick}, Killing, kill, 5 * s},
			turn{5 * s, event{kind: tick}, Failed, none, 0},
		), "outlives KILL, left behind", 0, true},
		{"simple is ready when it runs", func(u *manifest.Unit) { u.Type, u.Watchdog = manifest.Simple, 0 }, []turn{
			{0, event{kind: start}, Starting, spawn, 20 * s},
			{0, event{kind: spawned}, Running, none, 0},
			{99 * s, event{kind: tick}, Running, none, 0},
		}, "", 0, false},
		{"renewed is started anew at once, and that is no failure", nil, append(running[:3:3],
			turn{0, event{kind: renew}, Stopping, term, 10 * s},
			turn{1 * s, event{kind: renew}, Stopping, none, 9 * s},
			turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 0},
			turn{0, event{kind: tick}, Starting, spawn, 20 * s},
			turn{0, event{kind: ready}, Running, none, 30 * s},
			turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 1 * s},
			turn{0, event{kind: renew}, Starting, spawn, 20 * s},
		), "exit status 1", 0, false},
		{"a stop overtakes a renewal", nil, append(running[:3:3],
			turn{0, event{kind: renew}, Stopping, term, 10 * s},
			turn{0, event{kind: stop}, Stopping, none, 10 * s},
			turn{0, event{kind: exited, exit: exitOK}, Stopped, none, 0},
			turn{0, event{kind: renew}, Stopped, none, 0},
		), "exit status 0", 0, true},
		{"no delay is a restart at once", func(u *manifest.Unit) { u.RestartDelay = 0 }, append(running[:3:3],
			turn{0, event{kind: exited, exit: exitBad}, Backoff, none, 0},
			turn{0, event{kind: tick}, Starting, spawn, 20 * s},
		), "exit status 1", 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := testUnit()
			if tc.change != nil {
				tc.change(u)
			}
			m := play(t, machine{unit: u, state: Stopped}, tc.turns)
			if m.lastExit != tc.lastExit || m.restarts != tc.restarts || m.over() != tc.over {
				t.Errorf("got last exit %q, %d restarts, over %v; want %q, %d, %v",
					m.lastExit, m.restarts, m.over(), tc.lastExit, tc.restarts, tc.over)
			}
		})
	}
}

func TestBackoffNeverOverflows(t *testing.T) {
	for failures := range 200 {
		if got := backoff(100*time.Millisecond, time.Minute, failures); got <= 0 || got > time.Minute {
			t.Fatalf("after %d failures: got %v, want at most a minute", failures, got)
		}
	}
}
