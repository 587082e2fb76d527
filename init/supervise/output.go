//go:build linux

package supervise

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	maxLine   = 800 // bytes of one log line; /dev/kmsg takes about 1000 in all
	keepLines = 100 // last lines kept of a service
	// A serial console takes some hundred lines a second. A service may
	// print burstLines at once and one line each linePeriod after that.
	burstLines = 200
	linePeriod = 100 * time.Millisecond
)

// output carries what a service prints to the log, bounded in rate, and keeps
// the last lines. It outlives the service's processes.
type output struct {
	name string
	log  *slog.Logger

	mu      sync.Mutex
	last    []string // ring, next is the oldest
	next    int
	credit  time.Duration // linePeriod each line
	asOf    time.Time     // of credit
	dropped int
}

func newOutput(name string, log *slog.Logger, now time.Time) *output {
	return &output{name: name, log: log, credit: burstLines * linePeriod, asOf: now}
}

// copy reads lines until the pipe ends.
func (o *output) copy(r io.Reader) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n') // a full buffer is cut into lines
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			o.line(printable(text), time.Now())
		}
		if err != nil && err != bufio.ErrBufferFull {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reportDropped()
}

func (o *output) line(text string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) < keepLines {
		o.last = append(o.last, text)
	} else {
		o.last[o.next] = text
		o.next = (o.next + 1) % keepLines
	}
	o.credit = min(o.credit+now.Sub(o.asOf), burstLines*linePeriod)
	o.asOf = now
	if o.credit < linePeriod {
		o.dropped++
		return
	}
	o.credit -= linePeriod
	o.reportDropped()
	o.log.Info(o.name + ": " + text)
}

func (o *output) reportDropped() {
	if o.dropped > 0 {
		o.log.Warn(fmt.Sprintf("%s: %d lines dropped, it prints too fast", o.name, o.dropped))
		o.dropped = 0
	}
}

// lines returns the last lines, oldest first.
func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append(append([]string{}, o.last[o.next:]...), o.last[:o.next]...)
}

// printable keeps a service from driving the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
