package connect

import (
	"net"
	"time"
)

// Timed is a connection on which one read or write may not take longer, for
// libraries that set no limit of their own; zero is none.
type Timed struct {
	net.Conn
	ReadWait, WriteWait time.Duration
}

// Read implements net.Conn.
func (c Timed) Read(b []byte) (int, error) {
	if c.ReadWait > 0 {
		_ = c.SetReadDeadline(time.Now().Add(c.ReadWait))
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c Timed) Write(b []byte) (int, error) {
	if c.WriteWait > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(c.WriteWait))
	}
	return c.Conn.Write(b)
}
