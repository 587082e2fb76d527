//go:build linux

package supervise

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func TestOutputIsBounded(t *testing.T) {
	log := &logged{}
	now := time.Unix(0, 0)
	o := newOutput("x", textLog(log), now)
	for range 1000 {
		o.line("spam", now)
	}
	if got := strings.Count(log.String(), "x: spam"); got != burstLines {
		t.Errorf("got %d lines logged of 1000 at once, want %d", got, burstLines)
	}
	o.line("after a pause", now.Add(time.Second))
	if !strings.Contains(log.String(), "x: 800 lines dropped") || !strings.Contains(log.String(), "x: after a pause") {
		t.Error("log lacks the count of dropped lines or the line after them")
	}
	if lines := o.lines(); len(lines) != keepLines || lines[keepLines-1] != "after a pause" || lines[0] != "spam" {
		t.Errorf("got %d lines kept, last %q; want %d, the last one last", len(lines), lines[len(lines)-1], keepLines)
	}
}

func TestOutputLines(t *testing.T) {
	log := &logged{}
	o := newOutput("x", textLog(log), time.Now())
	o.copy(strings.NewReader("one\r\n\ntwo\x1b[2J\n" + strings.Repeat("y", maxLine+5) + "\nno end"))
	want := []string{"one", "two?[2J", strings.Repeat("y", maxLine), "yyyyy", "no end"}
	if got := strings.Join(o.lines(), "|"); got != strings.Join(want, "|") {
		t.Errorf("got lines %q, want %q", got, strings.Join(want, "|"))
	}
}

func TestParseNote(t *testing.T) {
	n := parseNote(7, "READY=1\nSTATUS=caught up\x1b\nEXTEND_TIMEOUT_USEC=2000000\nWATCHDOG=1\nX_OTHER=1\nMAINPID=1")
	if !n.ready || !n.keepalive || n.trigger || n.pid != 7 || n.extend != 2*time.Second || *n.status != "caught up?" {
		t.Errorf("got %+v, status %q", n, *n.status)
	}
	if n := parseNote(7, "READY=0\nEXTEND_TIMEOUT_USEC=-5\nWATCHDOG=trigger"); n.ready || n.extend != 0 || !n.trigger || n.status != nil {
		t.Errorf("got %+v, want only a trigger", n)
	}
}
