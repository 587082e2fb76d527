package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
)

const (
	// strangerBytes is how long a request may be from a client that has yet
	// to say who it is; tokens of large companies have some 10 KB.
	strangerBytes = 32 << 10
	// strangerMemory is what the requests of all of them together may take
	// that are longer than strangerFree. It is apart from the others' budget:
	// strangers with long requests make only their like wait.
	strangerMemory = 8 * strangerBytes
	strangerFree   = 1 << 10
	// authTimeout is how long the whole of saying who one is may take.
	authTimeout = 10 * time.Second
	// authDelay is how long a wrong password waits for its answer: Kafka's
	// connection.failed.authentication.delay.ms.
	authDelay = 100 * time.Millisecond
)

// guard is what a connection has proved, and what it has still to prove.
type guard struct {
	sec       *auth.Security // nil: nothing is asked
	principal string
	subject   *auth.Subject // nil: without an authorizer
	open      bool          // all requests are admitted
	until     time.Time     // by when it must be open
	session   session
}

// session is the state of SASL.
type session struct {
	mechanism string            // that the client chose; "" before a handshake
	talk      auth.Conversation // under way; nil: none
	raw       bool              // tokens come without a header (SaslHandshake version 0)
	failed    bool              // nothing is taken any more
	proved    bool              // the principal is of SASL
	expires   time.Time         // by when to authenticate again (KIP-368); zero: never
}

// wantsRaw reports whether the next message has no header.
func (s *session) wantsRaw() bool { return s.raw && s.talk != nil }

var (
	errTooOften = fmt.Errorf("the address connects more often than its quota allows: %w", net.ErrClosed)
	errBox      = errors.New(auth.Box + " is the box itself, and logs in nowhere")
	errStranger = errors.New("the client has to authenticate first")
	errExpired  = errors.New("the client's session has expired and it did not authenticate again (KIP-368)")
	// errRefused has been logged already, and needs no further word.
	errRefused = fmt.Errorf("authentication failed: %w", net.ErrClosed)
)

// enter makes the TLS handshake, if there is one, and finds out what the
// client is without SASL.
func (c *conn) enter(ctx context.Context) error {
	g := &c.guard
	g.open, g.principal = true, auth.Anonymous
	if !c.mayConnect(ctx) {
		return errTooOften
	}
	if g.sec != nil {
		g.until = time.Now().Add(authTimeout)
		g.open = g.sec.SASL == nil
		if c.trusted() {
			g.open, g.principal = true, auth.Box
		}
		if err := c.handshake(ctx); err != nil {
			return err
		}
	}
	c.becomes(g.principal)
	return nil
}

// mayConnect holds a client back for a moment that comes too often.
func (c *conn) mayConnect(ctx context.Context) bool {
	if !c.s.quotas.Active() {
		return true
	}
	wait := c.s.quotas.Connect(auth.HostOf(c.nc.RemoteAddr()))
	if wait > 0 {
		pause(ctx, min(wait, time.Second))
	}
	return wait == 0
}

// trusted reports whether the client is on this box and that is enough. A
// connection from the address that it goes to comes from the box, too.
func (c *conn) trusted() bool {
	from, ok := c.nc.RemoteAddr().(*net.TCPAddr)
	to, ok2 := c.nc.LocalAddr().(*net.TCPAddr)
	return c.guard.sec.TrustBox && ok && ok2 && (from.IP.IsLoopback() || from.IP.Equal(to.IP))
}

func (c *conn) handshake(ctx context.Context) error {
	tc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, c.guard.until)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake on listener %s: %w", c.guard.sec.Name, err)
	}
	certs := tc.ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return nil
	}
	principal, err := c.guard.sec.TLS.Principal(certs[0])
	if err == nil && principal == auth.Box {
		err = errBox
	}
	if err != nil {
		return err
	}
	c.guard.principal = principal
	return nil
}

// becomes says who the client is from here on.
func (c *conn) becomes(principal string) {
	c.guard.principal = principal
	if a := c.s.Authorizer; a != nil {
		c.guard.subject = a.Subject(principal, auth.HostOf(c.nc.RemoteAddr()))
	}
}

// mostBytes is how long the client's next request may be.
func (c *conn) mostBytes() int32 {
	if c.guard.open {
		return c.s.RequestBytes
	}
	return min(strangerBytes, c.s.RequestBytes)
}

// patience shortens a wait for a client that has yet to authenticate.
func (c *conn) patience(d time.Duration) time.Duration {
	if c.guard.open {
		return d
	}
	return min(d, time.Until(c.guard.until))
}

// admit judges a request by its key, before its body is read.
func (c *conn) admit(key kmsg.Key) error {
	g := &c.guard
	switch key {
	case kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.ApiVersions:
		return nil
	}
	if !g.open {
		return fmt.Errorf("%w: got %s", errStranger, key.Name())
	}
	if !g.session.expires.IsZero() && time.Now().After(g.session.expires) {
		return fmt.Errorf("%w: got %s", errExpired, key.Name())
	}
	return nil
}

// advertise is the address that a client is told, of the listener that it
// came by.
func (s *Server) advertise(r *request) (string, int32) {
	if r.from != nil && r.from.guard.sec != nil && r.from.guard.sec.Advertise != nil {
		return r.from.guard.sec.Advertise(r.conn)
	}
	return s.Advertise(r.conn)
}

// closeNow closes without a word: a TLS farewell waits for the client.
func closeNow(nc net.Conn) error {
	if tc, ok := nc.(*tls.Conn); ok {
		return tc.NetConn().Close()
	}
	return nc.Close()
}
