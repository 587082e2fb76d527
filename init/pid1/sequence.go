//go:build linux

// Package pid1 is the life of the machine as process 1: two sequences of
// named steps held as data, a main loop that proves it is alive, and an end
// that is bounded in time whatever hangs.
package pid1

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Step is one step of a boot.
type Step struct {
	Name string
	Do   func(ctx context.Context, m *Machine) error
	// Needed steps must succeed or the machine starts over; what fails of the
	// others becomes a problem on the status page.
	Needed bool
	// Deadline after which the step counts as failed, even if it does not
	// return. The watchdog is fed for as long.
	Deadline time.Duration
}

// grace is what a step gets to return after its deadline, and what the
// watchdog's lease exceeds it by.
const grace = 5 * time.Second

// run does the steps in order. It returns the first error of a needed step.
func run(ctx context.Context, m *Machine, steps []Step) error {
	for _, s := range steps {
		m.Feeder.Extend(s.Deadline + 2*grace)
		m.hangIf(s.Name)
		begin := time.Now()
		err := bounded(ctx, s.Deadline, func(ctx context.Context) error { return s.Do(ctx, m) })
		took := time.Since(begin)
		m.spent.step(s.Name, took)
		if took > 3*time.Second {
			m.Log().Info("step took long", "step", s.Name, "seconds", fmt.Sprintf("%.1f", took.Seconds()))
		}
		switch {
		case err == nil:
		case s.Needed:
			return &failure{s.Name, err}
		default:
			m.problem(fmt.Sprintf("%s: %v", s.Name, err))
		}
	}
	return nil
}

// failure is a needed step that failed.
type failure struct {
	step string
	err  error
}

func (f *failure) Error() string { return f.step + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// bounded calls do with a deadline. A do that does not return is left behind:
// it may hang in a system call that nothing can end.
func bounded(ctx context.Context, deadline time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- caught(func() error { return do(ctx) }) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case err := <-done:
		return err // what it says is better than that it was late
	case <-late.C:
		return fmt.Errorf("hangs since %s", deadline)
	}
}

// caught turns a panic into an error.
func caught(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}

// lastResort is what remains when a needed step fails or PID 1 itself breaks:
// say so, get to the disk what can be got there, and start over. Its parts
// are fields so that the tests can let each of them hang.
type lastResort struct {
	log     func() *slog.Logger
	lease   func(time.Duration)     // the watchdog's last
	note    func(reason string)     // keep why, for a trial: may hang
	release func()                  // end processes, unmount: may hang
	sync    func()                  // may hang
	reboot  func(command int) error // LINUX_REBOOT_CMD_*; does not return if it works
	forever func()                  // does not return

	delay time.Duration // for a person to read the reason
	limit time.Duration // for release and sync each
}

// fail never returns. Each of its stages is bounded; if even the reboot does
// not happen, the watchdog is no longer fed. The reason is what the console
// shows last, detail what came before it.
func (l *lastResort) fail(reason, detail string) {
	defer l.forever()
	defer func() {
		if r := recover(); r != nil {
			_ = l.reboot(unix.LINUX_REBOOT_CMD_RESTART)
		}
	}()
	l.lease(l.delay + 3*l.limit + 4*grace)
	if detail != "" {
		l.log().Error(detail)
	}
	l.log().Error("reboot: "+reason, "in", l.delay.String())
	l.stage("keep the reason", func() { l.note(strings.TrimSuffix(reason+": "+detail, ": ")) })
	time.Sleep(l.delay)
	l.stage("release", l.release)
	l.stage("sync", l.sync)
	if err := l.reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		l.log().Error("reboot", "err", err)
	}
}

func (l *lastResort) stage(name string, do func()) {
	err := bounded(context.Background(), l.limit, func(context.Context) error { do(); return nil })
	if err != nil {
		l.log().Error(name, "err", err)
	}
}
