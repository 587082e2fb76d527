//go:build linux

package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// Open arms the machine's hardware watchdog with the given timeout, or the
// nearest that its driver can. Of several the one whose driver's module comes
// first in prefer is taken, and unless others are good enough none but those.
func Open(timeout time.Duration, prefer []string, others bool) (*Device, error) {
	name, identity, err := choose(sysClass, prefer, others || len(prefer) == 0)
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
	_ = unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, within(sysClass, name, int(timeout/time.Second)))
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

// within is the number of seconds nearest to the wish that a watchdog can: one
// beyond its limits would be refused and leave it at its own.
func within(class, name string, seconds int) int {
	if most := number(class, name, "max_timeout"); most > 0 {
		seconds = min(seconds, most)
	}
	return max(seconds, number(class, name, "min_timeout"))
}

// number reads a file of a watchdog, 0 if it cannot be read.
func number(class, name, file string) int {
	b, err := os.ReadFile(filepath.Join(class, name, file))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// choose picks a watchdog that is hardware: the one whose module comes first
// in prefer, else, if others are good enough, the first by number.
// /dev/watchdog0 may be the software one, which dies with the kernel it should
// watch. Modules are named with - or _ by people, with _ by the kernel.
func choose(class string, prefer []string, others bool) (name, identity string, err error) {
	best := len(prefer) + 1
	for n := range 16 {
		candidate := "watchdog" + strconv.Itoa(n)
		b, err := os.ReadFile(filepath.Join(class, candidate, "identity"))
		id := strings.TrimSpace(string(b))
		if err != nil || strings.Contains(strings.ToLower(id), "software") {
			continue
		}
		driver := module(class, candidate)
		rank := slices.IndexFunc(prefer, func(name string) bool { return strings.ReplaceAll(name, "-", "_") == driver })
		if rank < 0 && others {
			rank = len(prefer)
		}
		if rank < 0 {
			continue
		}
		if rank < best {
			best, name, identity = rank, candidate, id
		}
	}
	if name == "" {
		return "", "", ErrNone
	}
	return name, identity, nil
}

// module is the one that a watchdog's driver is in, "" if it is built in. The
// kernel makes the link after the device has shown itself: whoever looks at the
// device's event may be too early.
func module(class, name string) string {
	link, err := os.Readlink(filepath.Join(class, name, "device/driver/module"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}
