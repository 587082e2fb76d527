package modbus

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serialPort is a device behind a serial port: a pseudo-terminal, whose other
// end the test holds.
func serialPort(t testing.TB) (*device, string) {
	t.Helper()
	// Not os.OpenFile: what has given away its Fd does not wake from a read.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, rtu: true, registers: map[uint16]uint16{}, bits: map[uint16]bool{}, silent: map[byte]bool{}, refuse: map[byte]byte{}}
	d.wait.Go(func() {
		for !errors.Is(d.exchange(end), os.ErrClosed) { // other errors: nobody has the port open
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() { end.Close(); d.wait.Wait() })
	return d, fmt.Sprintf("/dev/pts/%d", n)
}

// TestSerial reads over a serial port, a bad point and a silent unit among
// the points.
func TestSerial(t *testing.T) {
	d, path := serialPort(t)
	d.registers = map[uint16]uint16{0: 7, 1: 8}
	d.silent[2] = true
	next := run(t, profile(t, fmt.Sprintf(`address: %s
transport: rtu
serial: {baud: 115200}
every: 50ms
timeout: 300ms
points:
  - {name: a, address: "holding:0"}
  - {name: b, address: "holding:1", type: int16}
  - {name: gone, address: "holding:2"}
  - {name: away, address: "holding:0", unit_id: 2}
`, path)))
	until(t, next, map[string]any{"a": 7.0, "b": 8.0, "gone": "bad", "away": "bad"})
	d.set(func() { d.registers[0] = 9 })
	until(t, next, map[string]any{"a": 9.0})
}

// TestNoSerialPort: what is wrong is said in words.
func TestNoSerialPort(t *testing.T) {
	c, err := New(profile(t, "address: /dev/ttyNONE\ntransport: rtu\npoints: [{name: a, address: \"holding:0\"}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	err = c.(*Connector).Browse(t.Context(), nil, os.Stderr)
	if err == nil || !strings.Contains(err.Error(), "/dev/ttyNONE") {
		t.Errorf("got %v", err)
	}
}
