package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	readBuffer = 4 << 10 // per connection, held while it is idle
	inFlight   = 64      // answers of one connection that may wait for the disk
	// minSpeed is the slowest client that is waited for, in bytes per second.
	minSpeed = 16 << 10
)

// conn is one client. One goroutine reads and handles, in order; another
// writes answers, in the same order, when they are complete.
type conn struct {
	s       *Server
	nc      net.Conn
	br      *bufio.Reader
	out     chan *request // answered, to be written in this order
	dead    chan struct{} // closed when nothing can be written any more
	hanging atomic.Bool
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{
		s: s, nc: nc, br: bufio.NewReaderSize(nc, readBuffer),
		out: make(chan *request, inFlight), dead: make(chan struct{}),
	}
}

// hangUp ends reading.
func (c *conn) hangUp() {
	c.hanging.Store(true)
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// serve returns when the connection is closed. ctx ends waiting for records
// and rebalances, hard ends waiting for the disk.
func (c *conn) serve(ctx, hard context.Context) {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.writeLoop(hard)
	}()
	if err := c.guarded(ctx); err != nil && !isGoodbye(err) && !c.hanging.Load() {
		c.s.Log.Warn("close a connection", "client", c.nc.RemoteAddr(), "err", err)
	}
	close(c.out)
	<-written
	c.nc.Close()
}

// guarded keeps a defect that one client hits from ending all others.
func (c *conn) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.readLoop(ctx)
}

// isGoodbye names the ways in which a client ordinarily leaves.
func isGoodbye(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, errIdle) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &op) && !op.Timeout()
}

var errIdle = errors.New("idle for too long")

func (c *conn) readLoop(ctx context.Context) error {
	for {
		req, free, err := c.next(ctx)
		if err != nil {
			return err
		}
		begin := time.Now()
		req.answer, err = c.handle(ctx, req, free)
		c.s.Metrics.request(req.key, time.Since(begin))
		if err != nil {
			return err
		}
		req.body, req.msg = nil, nil
		select {
		case c.out <- req:
		case <-c.dead:
			req.answer.fetch.release()
			return net.ErrClosed
		}
	}
}

func (c *conn) handle(ctx context.Context, req *request, free func()) (answer, error) {
	defer free()
	return c.s.byKey[req.key].handle(c.s, ctx, req)
}

// next reads and decodes one request. free gives its memory back.
func (c *conn) next(ctx context.Context) (req *request, free func(), err error) {
	size, err := c.readSize()
	if err != nil {
		return nil, nil, err
	}
	if size < minHeader || size > c.s.RequestBytes {
		return nil, nil, fmt.Errorf("request of %d bytes, %d to %d are allowed", size, minHeader, c.s.RequestBytes)
	}
	key, err := c.peekKey()
	if err != nil {
		return nil, nil, err
	}
	release, err := c.reserve(ctx, key, size)
	if err != nil {
		return nil, nil, err
	}
	buf := c.s.memory.get(int(size))
	free = func() {
		c.s.memory.put(buf)
		release()
	}
	if err := c.readBody(buf); err != nil {
		free()
		return nil, nil, fmt.Errorf("read a request of %d bytes: %w", size, err)
	}
	if req, err = c.s.parseHeader(buf); err != nil {
		free()
		return nil, nil, err
	}
	if req.msg != nil { // it may wait long; its true size is known now
		release()
		release = func() {}
	}
	req.conn = c.nc
	c.s.Metrics.BytesIn.Add(float64(size))
	return req, free, nil
}

// readSize waits for the next request.
func (c *conn) readSize() (int32, error) {
	if c.br.Buffered() < sizeBytes {
		if err := c.deadline(c.s.IdleTimeout); err != nil {
			return 0, err
		}
	}
	b, err := c.br.Peek(sizeBytes)
	var ne net.Error
	switch {
	case err == nil:
	case errors.As(err, &ne) && ne.Timeout() && len(b) == 0:
		return 0, errIdle
	default:
		return 0, err
	}
	c.br.Discard(sizeBytes)
	return int32(binary.BigEndian.Uint32(b)), nil
}

// deadline sets the time by which the client must have sent something.
func (c *conn) deadline(d time.Duration) error {
	if err := c.nc.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	if c.hanging.Load() { // do not undo hangUp
		return net.ErrClosed
	}
	return nil
}

// peekKey looks at the request's api key.
func (c *conn) peekKey() (kmsg.Key, error) {
	if c.br.Buffered() < 2 {
		if err := c.deadline(c.s.TransferTimeout); err != nil {
			return 0, err
		}
	}
	b, err := c.br.Peek(2)
	if err != nil {
		return 0, err
	}
	return kmsg.Key(binary.BigEndian.Uint16(b)), nil
}

// reserve waits for the request's memory, before any of it is read. Requests
// other than Produce are decoded whole, and an array's claimed length is
// believed up to the number of bytes that follow: one that would not fit the
// budget is refused (with the default limits beyond 512 KiB).
func (c *conn) reserve(ctx context.Context, key kmsg.Key, size int32) (release func(), err error) {
	if key == kmsg.Produce {
		return c.s.memory.records.acquire(ctx, int64(size))
	}
	if longest := c.s.memory.control.size / decodeFactor; int64(size) > longest {
		return nil, fmt.Errorf("%s request of %d bytes, at most %d are allowed", key.Name(), size, longest)
	}
	return c.s.memory.control.acquire(ctx, int64(size)*decodeFactor)
}

// readBody fills b. The client has the transfer timeout and the time that a
// slow link takes, so that nobody holds memory by sending a byte now and then.
func (c *conn) readBody(b []byte) error {
	if c.br.Buffered() < len(b) {
		if err := c.deadline(c.s.TransferTimeout + time.Duration(len(b)/minSpeed)*time.Second); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(c.br, b)
	return err
}
