package qemu

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConsoleTakesEscapesOut(t *testing.T) {
	var raw strings.Builder
	c := NewConsole(&raw)
	in := "\x1b[2J\x1b[01;01HBds\x1b[0mDxe\r\n\x1b(\x00[    0.1] Linux\r\n"
	for i := range len(in) { // escapes may come in pieces
		c.Write([]byte(in[i : i+1]))
	}
	if got, want := c.Text(), "BdsDxe\n[    0.1] Linux\n"; got != want {
		t.Errorf("text: got %q, want %q", got, want)
	}
	if raw.String() != in {
		t.Errorf("raw: got %q, want %q", raw.String(), in)
	}
}

func TestExpectMovesOn(t *testing.T) {
	c := NewConsole(nil)
	c.Write([]byte("service a: ready\nservice b: ready\n"))
	pattern := regexp.MustCompile(`service (\w+): (\w+)`)
	for _, want := range [][]string{{"service a: ready", "a", "ready"}, {"service b: ready", "b", "ready"}} {
		got, err := c.Expect(t.Context(), pattern, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("match (-want +got):\n%s", diff)
		}
	}
	c.Write([]byte("old\n"))
	c.Skip()
	c.Write([]byte("new\n"))
	got, err := c.Expect(t.Context(), regexp.MustCompile(`old|new`), nil)
	if err != nil || got[0] != "new" {
		t.Errorf("after Skip: got %v (%v), want new", got, err)
	}
}

func TestExpectWaitsForWholeWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewConsole(nil)
		go func() {
			for _, part := range []string{"state: ru", "nning", "\nlogin: "} {
				c.Write([]byte(part))
				time.Sleep(quietLine / 2)
			}
		}()
		got, err := c.Expect(t.Context(), regexp.MustCompile(`state: (\w+)`), nil)
		if err != nil || got[1] != "running" {
			t.Errorf("half a line: got %q (%v), want running", got, err)
		}
		// A prompt never ends its line; it counts once it stands still.
		if _, err := c.Expect(t.Context(), regexp.MustCompile(`login: `), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestExpectEnds(t *testing.T) {
	c := NewConsole(nil)
	c.Write([]byte("one\nlast words"))
	pattern := regexp.MustCompile(`nothing`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Expect(ctx, pattern, nil)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "one\nlast words") {
		t.Errorf("cancelled: got error %v, want context.Canceled and the console's end", err)
	}
	off := make(chan struct{})
	close(off)
	if _, err := c.Expect(t.Context(), pattern, off); err == nil {
		t.Error("machine off: got no error")
	}
	if got, err := c.Expect(t.Context(), regexp.MustCompile(`last words$`), off); err != nil || got[0] != "last words" {
		t.Errorf("last words of a machine that is off: got %q (%v)", got, err)
	}
}

func TestTail(t *testing.T) {
	c := NewConsole(nil)
	c.Write([]byte("1\n2\n3\n"))
	for n, want := range map[int]string{1: "3", 2: "2\n3", 9: "1\n2\n3"} {
		if got := c.Tail(n); got != want {
			t.Errorf("last %d lines: got %q, want %q", n, got, want)
		}
	}
}
