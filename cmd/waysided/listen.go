package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// sockets are the listeners of one service.
type sockets struct {
	listeners []net.Listener
	own       bool // made here, not handed over by a supervisor
}

// listen takes the listeners that the supervisor hands over under one of the
// names, else makes one at addr. Sockets of a supervisor outlive the service,
// so that a restart refuses no connection.
func listen(names []string, addr string, log *slog.Logger) (sockets, error) {
	given, err := inherited(names, log)
	if err != nil || len(given) > 0 {
		return sockets{listeners: given}, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return sockets{}, fmt.Errorf("listen: %v", err)
	}
	return sockets{listeners: []net.Listener{l}, own: true}, nil
}

// inherited are the supervisor's listeners under the first of the names that
// it uses; none without a supervisor.
func inherited(names []string, log *slog.Logger) ([]net.Listener, error) {
	given, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take sockets of the supervisor: %v", err)
	}
	for _, name := range names {
		if ls := given[name]; len(ls) > 0 {
			log.Info("listening on sockets of the supervisor", "name", name, "address", ls[0].Addr().String())
			return ls, nil
		}
	}
	for name := range given {
		log.Warn("socket of the supervisor is not used", "name", name, "want", names)
	}
	return nil, nil
}

// one is the listener of a service that serves only one.
func (s sockets) one() (net.Listener, error) {
	if len(s.listeners) != 1 {
		s.close()
		return nil, fmt.Errorf("got %d sockets of the supervisor, want 1", len(s.listeners))
	}
	return s.listeners[0], nil
}

func (s sockets) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// announce returns the line for stdout that tells a person or a script where
// to connect, "" when a supervisor knows already.
func (s sockets) announce() string {
	if !s.own {
		return ""
	}
	return fmt.Sprintf("listening on %s\n", s.listeners[0].Addr())
}
