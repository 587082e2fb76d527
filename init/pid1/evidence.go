//go:build linux

package pid1

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tailLines is how much of the log is kept with a trial's boot.
const tailLines = 200

// lastLog reads the end of the kernel's log, in which the services' lines are
// as well.
func lastLog() []string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var out []string
	buf := make([]byte, 8<<10)
	for range 1 << 16 { // the log grows while it is read
		n, err := unix.Read(fd, buf)
		if err == unix.EPIPE { // overwritten under our eyes: go on
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		if line, ok := kmsgLine(buf[:n]); ok {
			out = append(out, line)
		}
		if len(out) > 4*tailLines {
			out = slices.Clone(out[len(out)-tailLines:])
		}
	}
	return out[max(0, len(out)-tailLines):]
}

// kmsgLine takes the text out of a record, "PRIORITY,SEQUENCE,TIME,FLAGS;TEXT"
// and lines that begin with a blank (kernel documentation, ABI dev-kmsg).
func kmsgLine(record []byte) (string, bool) {
	head, text, found := bytes.Cut(record, []byte(";"))
	if !found {
		return "", false
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	fields := strings.Split(string(head), ",")
	if len(fields) < 3 {
		return "", false
	}
	return fields[2][:max(0, len(fields[2])-3)] + "ms " + string(text), true
}

// panicked says whether the kernel left word of a panic, and forgets it: the
// room in the firmware is small.
func panicked() bool {
	panics, err := filepath.Glob("/sys/fs/pstore/dmesg-*")
	for _, f := range panics {
		_ = os.Remove(f)
	}
	return err == nil && len(panics) > 0
}

// resetCause is how the boot before this one ended, as far as the hardware
// tells. The watchdog's driver may be on its way still.
func (m *Machine) resetCause(panicked bool) string {
	if panicked {
		return "kernel panic"
	}
	if m.watched() == nil {
		soon, cancel := context.WithTimeout(m.background, 30*time.Second)
		defer cancel()
		_ = m.armed.wait(soon)
	}
	if dog := m.watched(); dog != nil && dog.Fired() {
		return "watchdog"
	}
	return ""
}
