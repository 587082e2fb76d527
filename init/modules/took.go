//go:build linux

package modules

import (
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Took is what a module cost the kernel: to relocate it, to check its
// signature, and to probe the devices that its driver was waited for by.
type Took struct {
	Module    string
	Processor time.Duration // of the thread that asked for it
}

// Took lists the modules that this loader has inserted, in order.
func (l *Loader) Took() []Took {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.took)
}

// timed inserts one module and notes what that took.
func (l *Loader) timed(insert func(string) error, path string) error {
	runtime.LockOSThread() // the clock is the thread's
	defer runtime.UnlockOSThread()
	begin := threadTime()
	err := insert(path)
	t := Took{nameOf(path), threadTime() - begin}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, t)
	return err
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
