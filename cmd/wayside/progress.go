package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/waysideos/wayside/image/debian"
)

// progress prints a line for every finished step of a build, with the time
// since the one before: steps may run beside each other.
type progress struct {
	w     io.Writer
	start time.Time

	mu   sync.Mutex
	step time.Time
}

func newProgress(w io.Writer) *progress {
	now := time.Now()
	return &progress{w: w, start: now, step: now}
}

// done says that a step is over and what came out.
func (p *progress) done(step, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	fmt.Fprintf(p.w, "  %-10s %6.1fs  %s\n", step, now.Sub(p.step).Seconds(), fmt.Sprintf(format, args...))
	p.step = now
}

// total is the time since the start.
func (p *progress) total() time.Duration { return time.Since(p.start) }

// mib prints bytes for a person.
func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// fetchLine shows packages on their way, on one line of a terminal and a line
// each elsewhere.
type fetchLine struct {
	w        io.Writer
	terminal bool
	last     time.Time
	current  string
}

func newFetchLine(w io.Writer) *fetchLine {
	f, ok := w.(*os.File)
	return &fetchLine{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

func (l *fetchLine) update(p debian.LockedPackage, done int64) {
	if !l.terminal {
		if l.current != p.Name {
			fmt.Fprintf(l.w, "  fetching   %s %s, %s\n", p.Name, p.Version, mib(p.Size))
		}
		l.current = p.Name
		return
	}
	if now := time.Now(); done == p.Size || now.Sub(l.last) > 100*time.Millisecond {
		l.last, l.current = now, p.Name
		fmt.Fprintf(l.w, "\r\x1b[K  fetching   %s: %s of %s", p.Name, mib(done), mib(p.Size))
	}
}

// end leaves a clean line behind.
func (l *fetchLine) end() {
	if l.terminal && l.current != "" {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
