package qemu

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// PortError says that a forward's port on the host is taken.
type PortError struct {
	Name string // the forward
	Addr string // host:port
}

func (e *PortError) Error() string {
	return fmt.Sprintf("port %s for %s is taken by another program", e.Addr, e.Name)
}

// Free ports are looked for below the range that systems hand out for
// outgoing connections: a snapshot keeps its ports for long.
const (
	portLow  = 20000
	portHigh = 30000
)

// CheckPorts returns a *PortError for the first forward whose port cannot be
// listened on now. Ports that are 0 are left out.
func CheckPorts(forwards []Forward) error {
	for _, f := range forwards {
		if _, port, err := net.SplitHostPort(f.Host); err == nil && port == "0" {
			continue
		}
		l, err := net.Listen("tcp", f.Host)
		if err != nil {
			return &PortError{Name: f.Name, Addr: f.Host}
		}
		l.Close()
	}
	return nil
}

// choosePorts replaces every port 0 by a free one. Another program may take
// it before QEMU does; then QEMU does not come up and Start tries again.
func choosePorts(forwards []Forward) ([]Forward, error) {
	out := slices.Clone(forwards)
	for i, f := range out {
		host, port, err := net.SplitHostPort(f.Host)
		if err != nil {
			return nil, fmt.Errorf("forward %s: host address %q is not host:port", f.Name, f.Host)
		}
		if port != "0" {
			continue
		}
		l, err := listenFree(host)
		if err != nil {
			return nil, fmt.Errorf("forward %s: %v", f.Name, err)
		}
		defer l.Close() // held until all are chosen, so that no two get the same
		out[i].Host = l.Addr().String()
	}
	return out, nil
}

func listenFree(host string) (net.Listener, error) {
	for range 100 {
		port := portLow + rand.IntN(portHigh-portLow)
		if l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	return nil, errors.New("find a free port: a hundred tries found none")
}
