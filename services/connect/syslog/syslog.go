// Package syslog receives log messages (RFC 5424 and RFC 3164) over UDP, TCP
// and TLS.
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const (
	maxSenders = 256 // connections at a time
	// stopGrace is how long messages that were read may still wait for the
	// broker when the box stops; then they go into the spool.
	stopGrace = 3 * time.Second
	// handshake is how long a TLS connection may take to begin.
	handshake = 10 * time.Second
)

// Connector is one receiver of the profile.
type Connector struct {
	cfg  site.Syslog
	zone *time.Location
	max  int
}

// New takes a receiver of a checked profile.
func New(cfg site.Syslog) (connect.Connector, error) {
	zone, err := time.LoadLocation(cfg.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("syslog %s: %v", cfg.Name, err)
	}
	n, err := site.ParseSize(cfg.MaxMessage)
	if err != nil {
		return nil, fmt.Errorf("syslog %s: %v", cfg.Name, err)
	}
	return &Connector{cfg: cfg, zone: zone, max: int(n)}, nil
}

func (c *Connector) parser() *parser {
	return newParser(c.zone, c.cfg.Records.Format == site.FormatRaw)
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	if c.cfg.Transport == site.SyslogUDP {
		return c.datagrams(ctx, box)
	}
	ln, err := box.Listen(c.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for syslog: %v", err)
	}
	if c.cfg.TLS != nil {
		ln = tls.NewListener(ln, box.ServerTLS(c.cfg.TLS))
	}
	s := &streams{Connector: c, box: box, conns: map[net.Conn]bool{}}
	return s.serve(ctx, ln)
}

// datagrams spools what comes: a datagram cannot be held back.
func (c *Connector) datagrams(ctx context.Context, box *connect.Box) error {
	p := c.parser()
	return box.Datagrams(ctx, c.cfg.Listen, func(_ net.PacketConn, b []byte, from net.Addr) {
		n := len(b)
		if n > c.max {
			box.Dead(tooLong{}.Error(), b, from.String())
			return
		}
		for n > 1 && (b[n-1] == '\n' || b[n-1] == 0) { // some senders end it as a line
			n--
		}
		if r, ok := p.record(b[:n], from, time.Now()); ok {
			_ = box.Spool(r) // what cannot be a record is a dead letter
		} else {
			box.Dead("no syslog message: it does not begin with a priority such as <13>", b, from.String())
		}
	})
}

// streams serves senders that connect.
type streams struct {
	*Connector
	box  *connect.Box
	wait sync.WaitGroup // of connections and of records on their way

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (s *streams) serve(ctx context.Context, ln net.Listener) error {
	// Records on their way outlive ctx for a while.
	post, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		ln.Close()
		s.closeAll()
		grace := time.AfterFunc(stopGrace, end)
		s.wait.Wait()
		grace.Stop()
		end()
	}()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	s.box.Up("listens on " + ln.Addr().String())
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a sender of syslog: %v", err)
		}
		if !s.add(conn) {
			s.box.Trouble(fmt.Errorf("more than %d senders: %s was turned away", maxSenders, conn.RemoteAddr()))
			conn.Close()
			continue
		}
		s.box.Up("listens on " + ln.Addr().String())
		s.wait.Go(func() {
			defer s.remove(conn)
			s.sender(post, conn)
		})
	}
}

// sender reads one connection. Post blocks while the broker takes nothing and
// the memory is used up: then the connection is not read, and a sender that
// keeps a queue keeps it. What the broker did not take goes into the spool.
func (s *streams) sender(ctx context.Context, conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		deadline, cancel := context.WithTimeout(ctx, handshake)
		err := t.HandshakeContext(deadline)
		cancel()
		if err != nil {
			s.box.Trouble(fmt.Errorf("sender %s: %v", conn.RemoteAddr(), err))
			return
		}
	}
	f, p := newFrames(conn, s.max), s.parser()
	for {
		b, err := f.next()
		var long tooLong
		switch {
		case errors.As(err, &long):
			s.box.Dead(long.Error(), long.begin, conn.RemoteAddr().String())
			continue
		case err != nil:
			if err != io.EOF && !errors.Is(err, net.ErrClosed) {
				s.box.Log().Debug("sender of syslog is gone", "sender", conn.RemoteAddr(), "error", err)
			}
			return
		}
		r, ok := p.record(b, conn.RemoteAddr(), time.Now())
		if !ok {
			s.box.Dead("no syslog message: it does not begin with a priority such as <13>", b, conn.RemoteAddr().String())
			continue
		}
		s.wait.Add(1)
		s.box.Post(ctx, r, func(err error) {
			defer s.wait.Done()
			if err != nil {
				_ = s.box.Spool(r) // what cannot be a record is a dead letter
			}
		})
	}
}

func (s *streams) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxSenders {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *streams) remove(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *streams) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}
