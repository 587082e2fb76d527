//go:build linux

package pid1

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// resetCause is how the boot before this one ended, as far as the hardware
// tells.
func (m *Machine) resetCause() string {
	if panics, err := filepath.Glob("/sys/fs/pstore/dmesg-*"); err == nil && len(panics) > 0 {
		for _, f := range panics { // their room in the firmware is small
			_ = os.Remove(f)
		}
		return "kernel panic"
	}
	if dog := m.watched(); dog != nil && dog.Fired() {
		return "watchdog"
	}
	return ""
}
