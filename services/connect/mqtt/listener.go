package mqtt

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
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
	turns      chan struct{} // see arrival

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	arrivals []*peer       // that have not yet said who they are, oldest first
	left     chan struct{} // has one when an arrival has left
	closed   chan struct{}
}

var _ listeners.Listener = (*listener)(nil)

// peer is a connection, and who its certificate says it is.
type peer struct {
	net.Conn          // encrypted, where the listener is
	raw      *arrival // as accepted
	at       *listener
	user     string
	conn     *connection // once there was a CONNECT

	claim string // client identifier, until it has a session
	head  []byte // the first bytes that came, until they say how long CONNECT is
	sized bool   // they have
}

// errNoConnect ends a connection that begins with anything but a CONNECT of
// bearable size. The library would make room for what it announces.
var errNoConnect = fmt.Errorf("no CONNECT of at most %d bytes", maxConnect)

// Read looks at the head of the first packet (MQTT 5.0, 2.1).
func (p *peer) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	for i := 0; i < n && !p.sized; i++ {
		p.head = append(p.head, b[i])
		if p.head[0] != connectHead {
			return 0, errNoConnect
		}
		if len(p.head) == 1 || b[i]&0x80 != 0 && len(p.head) < 5 {
			continue
		}
		p.sized = true
		if size, _ := binary.Uvarint(p.head[1:]); size > maxConnect { // the same encoding
			return 0, errNoConnect
		}
	}
	return n, err
}

// connectHead is the first byte of CONNECT (MQTT 5.0, 3.1.1).
const connectHead = 0x10

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
		a := &arrival{Conn: conn, turns: l.turns}
		p := &peer{Conn: a, raw: a, at: l}
		if !l.add(conn) {
			l.turnedAway.Inc()
			_ = conn.Close()
			continue
		}
		l.arrive(p)
		go func() {
			defer l.wg.Done()
			defer l.remove(conn)
			defer l.known(p)
			if err := l.serve(p, establish); err != nil {
				l.log.Debug("mqtt connection ended", "remote", conn.RemoteAddr(), "reason", err)
			}
		}()
	}
}

func (l *listener) serve(p *peer, establish listeners.EstablishFn) error {
	p.raw.takeTurn()
	defer p.raw.giveTurn()
	if l.tls != nil {
		t := tls.Server(p.raw, l.tls.Get())
		if err := t.Handshake(); err != nil {
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

// arrive waits until a connection may say who it is. While too many do, the
// next is not accepted, and waits in the kernel, until one is done or was waited for
// too long; who has said nothing for longest makes room. Whose CONNECT has come
// waits for us: to check a password may take longer than there is patience.
func (l *listener) arrive(p *peer) {
	for {
		l.mu.Lock()
		if len(l.arrivals) < maxHandshakes {
			l.arrivals = append(l.arrivals, p)
			l.mu.Unlock()
			return
		}
		var patience <-chan time.Time // nil: for ever
		if i, quiet := l.quietest(); i >= 0 {
			if quiet >= connectLeast {
				silent := l.arrivals[i]
				l.arrivals = slices.Delete(l.arrivals, i, i+1)
				l.mu.Unlock()
				l.turnedAway.Inc()
				_ = silent.raw.Close()
				continue
			}
			patience = time.After(connectLeast - quiet)
		}
		l.mu.Unlock()
		select {
		case <-patience:
		case <-l.left:
		case <-l.closed: // and so is p
			return
		}
	}
}

// quietest is who was waited for longest, -1 if nobody is. mu is held.
func (l *listener) quietest() (i int, quiet time.Duration) {
	i = -1
	for n, p := range l.arrivals {
		if q := p.raw.quiet(); !p.raw.said.Load() && (i < 0 || q > quiet) {
			i, quiet = n, q
		}
	}
	return i, quiet
}

// known takes a connection from those that have not said who they are.
func (l *listener) known(p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.arrivals, p)
	if i < 0 {
		return
	}
	l.arrivals = slices.Delete(l.arrivals, i, i+1)
	select {
	case l.left <- struct{}{}:
	default:
	}
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
