//go:build linux

// Package kmsg is the slog handler of PID 1: one line a record into the
// kernel's log, which keeps it and prints it on every console.
package kmsg

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
)

const (
	prefix = "wayside: "
	// maxRecord is what the kernel takes in one write, less some room
	// (LOG_LINE_MAX, 1024 - prefix).
	maxRecord = 960
)

// Open returns a logger on /dev/kmsg that no rate limit drops and that
// reaches the console whatever "quiet" says; before /dev is mounted, or
// without it, lines go to fallback.
func Open(fallback io.Writer) *slog.Logger {
	// The limit on writers of /dev/kmsg loses exactly the lines of a busy boot.
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0)
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("7\n"), 0)
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return slog.New(New(fallback))
	}
	return slog.New(New(f))
}

// Handler formats records as "<priority>wayside: message key=value …".
type Handler struct {
	mu    *sync.Mutex
	w     io.Writer
	attrs string // formatted, with a leading space
	group string // dotted, with a trailing dot
}

// New returns a handler that makes one Write a record.
func New(w io.Writer) *Handler { return &Handler{mu: &sync.Mutex{}, w: w} }

// Enabled keeps debug lines out of the kernel's small buffer.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle writes one record. An error of the log has nowhere to go.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<%d>%s", priority(r.Level), prefix)
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(format(h.group, a))
		return true
	})
	line := bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte(" | "))
	if len(line) > maxRecord {
		line = append(line[:maxRecord], "…"...)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(append(line, '\n'))
	return err
}

// WithAttrs returns a handler that adds attrs to each line.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		c.attrs += format(h.group, a)
	}
	return &c
}

// WithGroup returns a handler that prefixes keys with name.
func (h *Handler) WithGroup(name string) slog.Handler {
	c := *h
	c.group += name + "."
	return &c
}

func format(group string, a slog.Attr) string {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		var b strings.Builder
		for _, sub := range v.Group() {
			b.WriteString(format(group+a.Key+".", sub))
		}
		return b.String()
	}
	text := v.String()
	if text == "" || strings.ContainsAny(text, " \t\n\"=") {
		text = strconv.Quote(text)
	}
	return " " + group + a.Key + "=" + text
}

// priority maps to syslog: facility daemon (3), so that the kernel does not
// take the lines for its own.
func priority(l slog.Level) int {
	const daemon = 3 << 3
	switch {
	case l >= slog.LevelError:
		return daemon | 3
	case l >= slog.LevelWarn:
		return daemon | 4
	}
	return daemon | 6
}
