package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// quietLine is how long an unfinished line must stand still before a pattern
// is tried on it: a half-printed word must not match.
const quietLine = 200 * time.Millisecond

// Console is the guest's serial console: the whole transcript, with carriage
// returns and terminal escapes taken out, and a position up to which Expect
// has read. It is an io.Writer for what the guest prints.
type Console struct {
	mu      sync.Mutex
	text    []byte
	pos     int
	escape  int           // progress within a terminal escape
	changed chan struct{} // closed at every write
	raw     io.Writer     // gets every byte as it came
}

// NewConsole makes a console; raw may be nil.
func NewConsole(raw io.Writer) *Console {
	return &Console{changed: make(chan struct{}), raw: raw}
}

// Write takes what the guest printed. A writer that fails to keep the raw
// bytes does not disturb the guest.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raw != nil {
		c.raw.Write(p)
	}
	for _, b := range p {
		c.put(b)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return len(p), nil
}

const (
	escNone = iota
	escSeen // ESC
	escCSI  // ESC [ …, until a byte from @ to ~ (ECMA-48, 5.4)
)

func (c *Console) put(b byte) {
	switch {
	case c.escape == escSeen && b == '[':
		c.escape = escCSI
	case c.escape == escSeen:
		c.escape = escNone
	case c.escape == escCSI:
		if b >= '@' && b <= '~' {
			c.escape = escNone
		}
	case b == 0x1b:
		c.escape = escSeen
	case b == '\r' || b == 0:
	default:
		c.text = append(c.text, b)
	}
}

// Text is the whole transcript.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Tail is the last n lines.
func (c *Console) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(c.Text(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Skip moves the position to the end of what has been printed.
func (c *Console) Skip() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pos = len(c.text)
}

// Expect waits until pattern matches what stands after the position, moves
// the position behind the match, and returns the match and its groups. Whole
// lines are matched as they come, an unfinished one once it stands still. It
// fails when ctx ends or stop is closed; stop may be nil.
func (c *Console) Expect(ctx context.Context, pattern *regexp.Regexp, stop <-chan struct{}) ([]string, error) {
	quiet := false
	for {
		match, changed := c.match(pattern, quiet)
		if match != nil {
			return match, nil
		}
		timer := time.NewTimer(quietLine)
		select {
		case <-changed:
			quiet = false
		case <-timer.C:
			quiet = true
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("expect %q on the console: %w; it ends with:\n%s", pattern, ctx.Err(), c.Tail(20))
		case <-stop:
			timer.Stop()
			if match, _ := c.match(pattern, true); match != nil {
				return match, nil
			}
			return nil, fmt.Errorf("expect %q on the console: the machine is off", pattern)
		}
		timer.Stop()
	}
}

// match tries the pattern once and gives the channel of the next write.
func (c *Console) match(pattern *regexp.Regexp, partial bool) ([]string, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.text[c.pos:]
	if !partial {
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	loc := pattern.FindSubmatchIndex(text)
	if loc == nil {
		return nil, c.changed
	}
	groups := make([]string, len(loc)/2)
	for i := range groups {
		if loc[2*i] >= 0 {
			groups[i] = string(text[loc[2*i]:loc[2*i+1]])
		}
	}
	c.pos += loc[1]
	return groups, nil
}
