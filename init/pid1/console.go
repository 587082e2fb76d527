//go:build linux

package pid1

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// terminals are all consoles of the kernel at once: nobody knows at which one
// a person sits.
type terminals struct {
	files []*os.File
	lines chan string
	wait  sync.WaitGroup
}

// openTerminals opens what the kernel prints to.
func openTerminals() (*terminals, error) {
	active, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		return nil, fmt.Errorf("find the consoles: %w", err)
	}
	t := &terminals{lines: make(chan string)}
	for name := range strings.FieldsSeq(string(active)) {
		// Without O_NONBLOCK a read could not be ended by Close.
		fd, err := unix.Open(filepath.Join("/dev", name), unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		t.files = append(t.files, os.NewFile(uintptr(fd), name))
	}
	return t, nil
}

// listen reads lines until ctx ends and Close is called.
func (t *terminals) listen(ctx context.Context, guard func(name string)) {
	for _, f := range t.files {
		t.wait.Go(func() {
			defer guard("console")
			for s := bufio.NewScanner(f); s.Scan(); {
				select {
				case t.lines <- strings.TrimSpace(s.Text()):
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// Tell prints, as terminals want it.
func (t *terminals) Tell(text string) {
	for _, f := range t.files {
		_, _ = f.WriteString(strings.ReplaceAll(text, "\n", "\r\n"))
	}
}

// Line waits for a line from any of them.
func (t *terminals) Line(ctx context.Context) (string, error) {
	select {
	case s := <-t.lines:
		return s, nil
	case <-ctx.Done():
		return "", fmt.Errorf("nobody answers at the console: %w", ctx.Err())
	}
}

func (t *terminals) Close() {
	for _, f := range t.files {
		f.Close()
	}
	t.wait.Wait()
}
