package mqtt

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/prometheus/client_golang/prometheus"
)

// listener gives accepted connections to the library. It bounds their number
// and the time a connection may take to say who it is: the library does
// neither before CONNECT.
type listener struct {
	net.Listener
	log        *slog.Logger
	turnedAway prometheus.Counter
	wg         sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

var _ listeners.Listener = (*listener)(nil)

func newListener(ln net.Listener, log *slog.Logger, turnedAway prometheus.Counter) *listener {
	return &listener{Listener: ln, log: log, turnedAway: turnedAway, conns: map[net.Conn]struct{}{}}
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return "mqtt" }
func (l *listener) Address() string         { return l.Addr().String() }
func (l *listener) Protocol() string        { return "mqtt" }

// Serve accepts until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accept mqtt connection", "error", err)
			time.Sleep(100 * time.Millisecond) // out of file descriptors, most likely
			continue
		}
		if !l.add(conn) {
			l.turnedAway.Inc()
			_ = conn.Close()
			continue
		}
		go func() {
			defer l.wg.Done()
			defer l.remove(conn)
			_ = conn.SetReadDeadline(time.Now().Add(connectTimeout)) // replaced once it is connected
			if err := establish(l.ID(), conn); err != nil {
				l.log.Debug("mqtt connection ended", "remote", conn.RemoteAddr(), "reason", err)
			}
		}()
	}
}

func (l *listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.conns) >= maxClients+maxHandshakes {
		return false
	}
	l.conns[conn] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *listener) remove(conn net.Conn) {
	_ = conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// Close stops accepting, lets the library say goodbye, and closes what is
// left.
func (l *listener) Close(goodbye listeners.CloseFn) {
	_ = l.Listener.Close()
	goodbye(l.ID())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// wait returns when no connection is served any more.
func (l *listener) wait() { l.wg.Wait() }
