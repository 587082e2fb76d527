//go:build linux

// Package reap is the one place that waits for child processes: it collects
// the orphans that fall to PID 1 and hands every other exit status to whoever
// started that process.
package reap

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// Exit is how a process ended.
type Exit struct {
	PID    int
	Status unix.WaitStatus
}

// Clean says whether the process ended by itself with status 0.
func (e Exit) Clean() bool { return e.Status.Exited() && e.Status.ExitStatus() == 0 }

// String gives the end in the words of os/exec: "exit status 1",
// "signal: killed".
func (e Exit) String() string {
	switch {
	case e.Status.Signaled() && e.Status.CoreDump():
		return fmt.Sprintf("signal: %v (core dumped)", e.Status.Signal())
	case e.Status.Signaled():
		return fmt.Sprintf("signal: %v", e.Status.Signal())
	}
	return fmt.Sprintf("exit status %d", e.Status.ExitStatus())
}

// Reaper owns wait4(-1). A process that has a Reaper must not call Wait on
// any child: each status can be collected once only.
type Reaper struct {
	log *slog.Logger

	mu    sync.Mutex
	wants map[int]chan Exit
}

// New returns a Reaper; nothing is collected before Run.
func New(log *slog.Logger) *Reaper {
	return &Reaper{log: log, wants: map[int]chan Exit{}}
}

// Start starts cmd and returns its pid and a channel that receives the exit
// once and is then closed. The standard streams of cmd must be nil or
// *os.File: os/exec copies anything else by goroutines that only Wait ends.
// cmd.Wait must not be called; cmd.Process.Signal is safe at any time.
func (r *Reaper) Start(cmd *exec.Cmd) (pid int, exit <-chan Exit, err error) {
	for _, s := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if _, ok := s.(*os.File); s != nil && !ok {
			return 0, nil, fmt.Errorf("start %s: a standard stream is a %T, want *os.File", cmd.Path, s)
		}
	}
	// The lock spans fork and registration: a child that ends at once must
	// not be collected as an orphan. It also covers the wait that os/exec
	// itself does for a child whose exec fails.
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	c := make(chan Exit, 1)
	r.wants[cmd.Process.Pid] = c
	return cmd.Process.Pid, c, nil
}

// Run collects exits until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	defer signal.Stop(child)
	for {
		r.collect()
		select {
		case <-child:
		case <-ctx.Done():
			return
		}
	}
}

// collect takes every exit that is there. One SIGCHLD may stand for many.
func (r *Reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return // no child, or none that ended
		}
		exit := Exit{PID: pid, Status: status}
		c, wanted := r.wants[pid]
		if !wanted {
			r.log.Debug("orphan reaped", "pid", pid, "exit", exit.String())
			continue
		}
		delete(r.wants, pid)
		c <- exit
		close(c)
	}
}
