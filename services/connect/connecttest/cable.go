package connecttest

import (
	"net"
	"sync"
	"testing"
)

// Cable is the way of TCP connections to a device that listens elsewhere. It
// can be cut while the device goes on, held still, and disturbed.
type Cable struct {
	Addr string // where the connector finds the device

	t  testing.TB
	to string
	wg sync.WaitGroup

	mu     sync.Mutex
	moved  *sync.Cond // held or plugged has changed
	ln     net.Listener
	conns  map[net.Conn]bool
	held   bool
	garble bool
}

// NewCable is one to the address of a device; it is not plugged in yet.
func NewCable(t testing.TB, to string) *Cable {
	t.Helper()
	c := &Cable{Addr: FreeAddress(t), t: t, to: to, conns: map[net.Conn]bool{}}
	c.moved = sync.NewCond(&c.mu)
	t.Cleanup(c.Cut)
	return c
}

// Plug lets connections through; it may be plugged in already.
func (c *Cable) Plug() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ln != nil {
		return
	}
	ln, err := net.Listen("tcp", c.Addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ln = ln
	c.wg.Go(func() { c.accept(ln) })
}

// Cut ends all connections, and lets none through until Plug.
func (c *Cable) Cut() {
	c.mu.Lock()
	if c.ln != nil {
		c.ln.Close()
		c.ln = nil
	}
	for conn := range c.conns {
		conn.Close()
	}
	c.moved.Broadcast()
	c.mu.Unlock()
	c.wg.Wait()
}

// Plugged says whether connections are let through.
func (c *Cable) Plugged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ln != nil
}

// Hold has what is sent wait, in both directions, until it is let go.
func (c *Cable) Hold(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
	c.moved.Broadcast()
}

// Garble makes the next that the device says something else.
func (c *Cable) Garble() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.garble = true
}

// Do is Device's, for devices on a cable.
func (c *Cable) Do(f Fault) bool {
	c.Hold(f == Slow)
	if f == Malformed {
		c.Garble()
	}
	return true
}

func (c *Cable) accept(ln net.Listener) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.to)
		if err != nil {
			near.Close()
			continue
		}
		c.mu.Lock()
		plugged := c.ln == ln
		c.conns[near], c.conns[far] = true, true
		c.mu.Unlock()
		if !plugged {
			near.Close()
			far.Close()
			continue
		}
		c.wg.Go(func() { c.carry(far, near, false) })
		c.wg.Go(func() { c.carry(near, far, true) })
	}
}

func (c *Cable) carry(to, from net.Conn, device bool) {
	defer func() {
		to.Close()
		from.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.conns, from)
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		c.mu.Lock()
		for c.held && c.ln != nil {
			c.moved.Wait()
		}
		if device && c.garble {
			c.garble = false
			for i := range n {
				b[i] = 0
			}
		}
		c.mu.Unlock()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
