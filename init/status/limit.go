package status

import (
	"net"
	"sync"
)

// limited is a listener with at most so many open connections.
type limited struct {
	net.Listener
	open chan struct{}
}

func newLimited(l net.Listener, most int) *limited {
	return &limited{l, make(chan struct{}, most)}
}

// Accept waits for another connection to be closed if there are too many. A
// server that closes closes those first, so this ends too.
func (l *limited) Accept() (net.Conn, error) {
	l.open <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.open
		return nil, err
	}
	return &counted{Conn: c, release: sync.OnceFunc(func() { <-l.open })}, nil
}

type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	defer c.release()
	return c.Conn.Close()
}
