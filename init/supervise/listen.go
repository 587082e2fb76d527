//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/manifest"
)

// listening is one socket unit: its listeners are made once and outlive every
// process of the service, so that a restart makes clients wait, not fail.
type listening struct {
	socket manifest.Socket

	mu    sync.Mutex
	files []*os.File
}

// open makes the listeners that are not there yet. After an error it may be
// called again.
func (l *listening) open(ctx context.Context) ([]*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.files) < len(l.socket.Listen) {
		f, err := listen(ctx, l.socket, l.socket.Listen[len(l.files)])
		if err != nil {
			return nil, fmt.Errorf("socket %s: %w", l.socket.Name, err)
		}
		l.files = append(l.files, f)
	}
	return l.files, nil
}

// made are the listeners that are there.
func (l *listening) made() []*os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.files)
}

// move closes what listens elsewhere; open makes the new listeners.
func (l *listening) move(addresses []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(l.socket.Listen, addresses) {
		return false
	}
	l.shut()
	l.socket.Listen = addresses
	return true
}

func (l *listening) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut()
}

func (l *listening) shut() {
	for _, f := range l.files {
		f.Close()
	}
	l.files = nil
}

// listen makes one listener and gives its descriptor away from the runtime's
// poller: init never accepts.
func listen(ctx context.Context, s manifest.Socket, address string) (*os.File, error) {
	network := "tcp"
	switch {
	case filepath.IsAbs(address):
		network = "unix"
		if err := prepareUnix(address); err != nil {
			return nil, err
		}
	case !strings.Contains(address, ":"):
		address = ":" + address // Go listens on [::] for both families
	}
	l, err := (&net.ListenConfig{Control: freebind}).Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
		if err := ownUnix(s, address); err != nil {
			return nil, err
		}
	}
	return l.(interface{ File() (*os.File, error) }).File()
}

// freebind lets a listener have an address before DHCP has brought it. It is
// best effort: without it only that case fails, and is retried.
func freebind(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	return c.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	})
}

func prepareUnix(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func ownUnix(s manifest.Socket, path string) error {
	if s.User != "" || s.Group != "" {
		who, err := lookup(s.User, s.Group, nil)
		if err != nil {
			return err
		}
		if err := chown(path, who); err != nil {
			return err
		}
	}
	return os.Chmod(path, s.Mode)
}
