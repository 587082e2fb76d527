//go:build linux

package pid1

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/modules"
)

// spent keeps where the time of a boot went, and tells when all services are
// ready: make bench-boot reads it, and whoever wonders about a slow box.
type spent struct {
	began  time.Time
	before usage // at began; process 1 was the kernel's own before

	mu      sync.Mutex
	steps   []took
	modules []took   // of the loader before the present one
	until   []string // a line for each service that was ready
}

// took is one step's elapsed time, or one module's of the processor.
type took struct {
	name string
	time time.Duration
}

// loaded keeps the modules of a loader that another takes over from.
func (s *spent) loaded(l *modules.Loader) {
	all := tookBy(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.modules = append(s.modules, all...)
}

func tookBy(l *modules.Loader) (all []took) {
	if l == nil {
		return nil
	}
	for _, t := range l.Took() {
		all = append(all, took{t.Module, t.Processor})
	}
	return all
}

// allModules are those of both loaders.
func (m *Machine) allModules() []took {
	now := tookBy(m.modules.Load())
	m.spent.mu.Lock()
	defer m.spent.mu.Unlock()
	return slices.Concat(m.spent.modules, now)
}

// serviceReady is told by the supervisor.
func (m *Machine) serviceReady(name string, pid int) {
	var sum time.Duration
	for _, t := range m.allModules() {
		sum += t.time
	}
	m.spent.ready(name, pid, sum)
}

func (m *Machine) tellSpent() {
	for _, line := range m.spent.lines(m.allModules()) {
		m.Log().Info(line)
	}
}

// usage is what was used of the processors since the kernel's start.
type usage struct {
	user, kernel time.Duration // of process 1 and its children that were waited for
	idle         time.Duration // of all processors together, waits for the disk included
	faults       int64         // pages that process 1 waited for
}

func newSpent() *spent { return &spent{began: time.Now(), before: usageNow()} }

// step notes what a step took, of whichever sequence.
func (s *spent) step(name string, elapsed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, took{name, elapsed})
}

// ready notes the moment when a service is ready for the first time, with what
// was used until then, in seconds. "others" are the kernel's own threads (dm-verity,
// probing, the disk) and every other process.
func (s *spent) ready(service string, pid int, modules time.Duration) {
	elapsed, now := time.Since(s.began), usageNow()
	own, _ := processUsage(fmt.Sprintf("/proc/%d/stat", pid))
	busy := elapsed*time.Duration(runtime.NumCPU()) - (now.idle - s.before.idle)
	user, kernel := now.user-s.before.user, now.kernel-s.before.kernel
	line := fmt.Sprintf("spent until %s was ready: elapsed=%s processors=%d idle=%s init_user=%s init_kernel=%s of_it_modules=%s service_user=%s service_kernel=%s others=%s init_faults=%d service_faults=%d",
		service, seconds(elapsed), runtime.NumCPU(), seconds(now.idle-s.before.idle), seconds(user), seconds(kernel), seconds(modules),
		seconds(own.user), seconds(own.kernel), seconds(busy-user-kernel-own.user-own.kernel), now.faults-s.before.faults, own.faults)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = append(s.until, line)
}

// lines are what spent has to tell; steps and modules of less than shortest
// are left out.
func (s *spent) lines(modules []took) []string {
	const shortest = 10 * time.Millisecond
	list := func(what string, all []took) string {
		var b strings.Builder
		b.WriteString("spent on " + what + ":")
		for _, t := range all {
			if t.time >= shortest {
				fmt.Fprintf(&b, " %s=%s", strings.ReplaceAll(t.name, " ", "-"), seconds(t.time))
			}
		}
		return b.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Clone(s.until), list("steps", s.steps), list("modules", modules))
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) }

// usageNow asks the kernel. What it does not say counts nothing.
func usageNow() (u usage) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			u.user += time.Duration(r.Utime.Nano())
			u.kernel += time.Duration(r.Stime.Nano())
			u.faults += r.Majflt
		}
	}
	text, _ := os.ReadFile("/proc/stat")
	u.idle = idleOf(text)
	return u
}

// tick is the unit of times in proc(5), whatever the kernel's own.
const tick = time.Second / 100

// idleOf takes idle and iowait out of /proc/stat.
func idleOf(text []byte) time.Duration {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	f := strings.Fields(string(first))
	if len(f) < 6 || f[0] != "cpu" {
		return 0
	}
	idle, _ := strconv.ParseInt(f[4], 10, 64)
	wait, _ := strconv.ParseInt(f[5], 10, 64)
	return time.Duration(idle+wait) * tick
}

// processUsage reads /proc/PID/stat.
func processUsage(file string) (u usage, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return u, err
	}
	// The second field is a name in brackets, which may hold anything.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return u, fmt.Errorf("%s has %d fields", file, len(f))
	}
	var n [3]int64
	for i, at := range []int{9, 11, 12} { // majflt, utime, stime
		if n[i], err = strconv.ParseInt(f[at], 10, 64); err != nil {
			return u, fmt.Errorf("%s: %v", file, err)
		}
	}
	return usage{faults: n[0], user: time.Duration(n[1]) * tick, kernel: time.Duration(n[2]) * tick}, nil
}
