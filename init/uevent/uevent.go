//go:build linux

// Package uevent listens to what the kernel says of devices that come and go
// (a netlink socket of the family KOBJECT_UEVENT).
package uevent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Event is one message. Fields that a device does not have are empty.
type Event struct {
	Action    string // "add", "remove", "change", "bind", …
	DevPath   string // below /sys
	Subsystem string
	DevName   string // below /dev: "vda1", "input/event0"
	Modalias  string
}

// Listener is an open socket; events queue from Open on, so that nothing is
// lost between a walk through sysfs and Run.
type Listener struct{ f *os.File }

// Open starts to listen.
func Open() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open uevent socket: %w", err)
	}
	// A coldplug of a large machine is thousands of events.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return &Listener{os.NewFile(uintptr(fd), "uevent")}, nil
}

// Run calls handle for each event until ctx ends, and closes the socket.
func (l *Listener) Run(ctx context.Context, handle func(Event)) error {
	stop := context.AfterFunc(ctx, func() { l.f.Close() })
	defer l.f.Close()
	defer stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := l.f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue // some were lost; the next ones are not
		case err != nil:
			return fmt.Errorf("read uevents: %w", err)
		}
		if e, ok := parse(buf[:n]); ok {
			handle(e)
		}
	}
}

// parse reads "ACTION@DEVPATH\0KEY=value\0…".
func parse(msg []byte) (Event, bool) {
	var e Event
	for i, field := range bytes.Split(msg, []byte{0}) {
		key, value, found := strings.Cut(string(field), "=")
		if i == 0 {
			if !strings.Contains(key, "@") {
				return e, false // not from the kernel: udev's own messages
			}
			continue
		}
		if !found {
			continue
		}
		switch key {
		case "ACTION":
			e.Action = value
		case "DEVPATH":
			e.DevPath = value
		case "SUBSYSTEM":
			e.Subsystem = value
		case "DEVNAME":
			e.DevName = value
		case "MODALIAS":
			e.Modalias = value
		}
	}
	return e, e.Action != ""
}
