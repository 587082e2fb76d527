//go:build linux

package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DefaultTimeout is how long the hardware waits to be fed.
	DefaultTimeout = 30 * time.Second

	sysClass = "/sys/class/watchdog"
)

// ErrNone says that the machine has no hardware watchdog, or its driver is
// not there yet.
var ErrNone = errors.New("no hardware watchdog")

// Device is an armed watchdog. It stays armed when the process ends.
type Device struct {
	fd       int
	Name     string // "watchdog0"
	Identity string // "i6300ESB timer"
}

// Open arms the machine's hardware watchdog with the given timeout.
func Open(timeout time.Duration) (*Device, error) {
	name, identity, err := choose(sysClass)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s (%s): %w", name, identity, err)
	}
	d := &Device{fd: fd, Name: name, Identity: identity}
	// The driver rounds, or keeps its own; a watchdog with another timeout is
	// better than none. (u-root's SetTimeout passes nanoseconds.)
	_ = unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, int(timeout/time.Second))
	return d, d.Feed()
}

// Feed keeps the machine alive for another timeout.
func (d *Device) Feed() error {
	_, err := unix.Write(d.fd, []byte{'1'})
	return err
}

// Timeout is what the driver made of the wish.
func (d *Device) Timeout() (time.Duration, error) {
	s, err := unix.IoctlGetInt(d.fd, unix.WDIOC_GETTIMEOUT)
	return time.Duration(s) * time.Second, err
}

// Fired says whether the machine started because this watchdog was not fed, as
// far as its driver can tell.
func (d *Device) Fired() bool {
	status, err := unix.IoctlGetInt(d.fd, unix.WDIOC_GETBOOTSTATUS)
	return err == nil && status&unix.WDIOF_CARDRESET != 0
}

// choose picks the first watchdog by number that is hardware. /dev/watchdog0
// may be the software one, which dies with the kernel it should watch.
func choose(class string) (name, identity string, err error) {
	for n := range 16 {
		name := "watchdog" + strconv.Itoa(n)
		b, err := os.ReadFile(filepath.Join(class, name, "identity"))
		if err != nil {
			continue
		}
		if id := strings.TrimSpace(string(b)); !strings.Contains(strings.ToLower(id), "software") {
			return name, id, nil
		}
	}
	return "", "", ErrNone
}
