package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// listener gives accepted connections to the library. It bounds their number
// and the time a connection may take to say who it is: the library does
// neither before CONNECT.
type listener struct {
	net.Listener
	name      string
	tls       *secret.Reloaded[tls.Config] // nil: plain text
	anonymous bool                         // clients need no name

	log        *slog.Logger
	open       <-chan struct{} // closed when clients may be served
	turnedAway prometheus.Counter
	failed     func(*peer) // a connection that was begun and never established
	wg         sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed chan struct{}
}

var _ listeners.Listener = (*listener)(nil)

// peer is a connection, and who its certificate says it is.
type peer struct {
	net.Conn
	at   *listener
	user string
	conn *connection // once there was a CONNECT
}

// Write bounds how long a device may take to take something.
func (p *peer) Write(b []byte) (int, error) {
	_ = p.SetWriteDeadline(time.Now().Add(writeTimeout))
	return p.Conn.Write(b)
}

// listenTLS opens a listener of the profile.
func listenTLS(l *site.MQTTListener, secrets string, anonymous bool, log *slog.Logger) (*listener, error) {
	out := &listener{name: l.Name, anonymous: anonymous}
	if l.Anonymous != nil {
		out.anonymous = *l.Anonymous
	}
	if l.TLS != nil {
		t := *l.TLS
		if t.ClientAuth == "" || t.ClientAuth == "none" {
			t.ClientCA = "" // nobody is asked: not read
		}
		paths := []string{secret.Path(secrets, t.Cert), secret.Path(secrets, t.Key)}
		if t.ClientCA != "" {
			paths = append(paths, secret.Path(secrets, t.ClientCA))
		}
		var err error
		if out.tls, err = secret.Reload(log, func() (*tls.Config, error) { return secret.ServerTLS(secrets, &t) }, paths...); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", l.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %v", err)
	}
	out.Listener = ln
	return out, nil
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return l.name }
func (l *listener) Address() string         { return l.Addr().String() }
func (l *listener) Protocol() string        { return "mqtt" }

// Serve accepts until Close. Before the state is read nobody is: a client
// would hear that its session is gone.
func (l *listener) Serve(establish listeners.EstablishFn) {
	select {
	case <-l.open:
	case <-l.closed:
		return
	}
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
			if err := l.serve(conn, establish); err != nil {
				l.log.Debug("mqtt connection ended", "remote", conn.RemoteAddr(), "reason", err)
			}
		}()
	}
}

func (l *listener) serve(conn net.Conn, establish listeners.EstablishFn) error {
	_ = conn.SetReadDeadline(time.Now().Add(connectTimeout)) // replaced once it is connected
	p := &peer{Conn: conn, at: l}
	if l.tls != nil {
		t := tls.Server(conn, l.tls.Get())
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		if certs := t.ConnectionState().PeerCertificates; len(certs) > 0 {
			p.user = certs[0].Subject.CommonName
			if p.user == "" {
				return errors.New("client certificate has no common name")
			}
		}
		p.Conn = t
	}
	defer l.failed(p)
	return establish(l.ID(), p)
}

func (l *listener) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return false
	default:
	}
	if len(l.conns) >= maxClients+maxHandshakes {
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
	close(l.closed)
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// wait returns when no connection is served any more.
func (l *listener) wait() { l.wg.Wait() }
