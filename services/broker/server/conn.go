package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/share"
)

const (
	inFlight = 64 // answers of one connection that may wait for the disk
	// restAfter is for how long a client sends nothing before it is waited for
	// with as little memory as that takes. It costs a busy client nothing, one
	// with pauses 2 µs a request; the sooner, the fewer stacks have grown at once,
	// and what most goroutines use is what Go gives new ones.
	restAfter = 10 * time.Millisecond
	// minSpeed is the slowest client that is waited for, in bytes per second.
	minSpeed = 16 << 10
)

// conn is one client. One goroutine reads and handles requests in order and
// writes their answers. While an answer waits for the disk a second one does
// the writing (see write.go), so an idle client costs one goroutine and no
// buffer. A client that has nothing to say for a moment goes on in a new
// goroutine, whose stack no request has made grow yet (see rest).
type conn struct {
	s       *Server
	nc      net.Conn
	in      *input
	sums    sums // of the request that was read last
	out     sender
	fetches *fetchSession // nil: none
	shares  map[*share.Session]bool
	guard   guard
	hanging atomic.Bool
	entered bool // enter has let it in
	idle    bool // it has been for too long

	mu      sync.Mutex
	room    sync.Cond
	queue   []*request // answers in order, the first of which waits for the disk
	writing bool       // writeQueue runs; sender is its own then
	broken  error      // why nothing can be written any more
	writers sync.WaitGroup
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, in: newInput(nc, s.memory)}
	c.room.L = &c.mu
	c.out.c = c
	return c
}

// hangUp ends reading.
func (c *conn) hangUp() {
	c.hanging.Store(true)
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// serve answers a client until it rests or the connection is closed. ctx ends
// waiting for records and rebalances, hard ends waiting for the disk.
func (c *conn) serve(ctx, hard context.Context) {
	awake, gone := context.WithCancel(hard)
	defer gone()
	err := guarded(func() error { return c.readLoop(ctx, awake) })
	if err == errRest {
		c.s.wg.Go(func() { c.rest(ctx, hard) })
		return
	}
	defer c.s.untrack(c)
	if err != nil && !isGoodbye(err) && !c.hanging.Load() {
		c.s.Log.Warn("close a connection", "client", c.nc.RemoteAddr(), "err", err)
	}
	// A client that has gone may have left answers that wait for long.
	timer := time.AfterFunc(drain, gone)
	defer timer.Stop()
	c.writers.Wait()
	c.out.flush() // what was answered is still sent
	c.nc.Close()
	c.in.drop()
	c.s.sessions.close(c.fetches)
	for session := range c.shares {
		session.Close()
	}
}

// rest waits until there is something to read, or nothing ever will be: serve
// finds out which. A stack that has grown is never given back while it is used
// as much as waiting in serve does, and 1,000 of them are 4 MB rather than 2.
func (c *conn) rest(ctx, hard context.Context) {
	if c.deadline(c.s.IdleTimeout) == nil {
		c.idle = isTimeout(c.in.await())
	}
	c.serve(ctx, hard)
}

// guarded keeps a defect that one client hits from ending all others.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// isGoodbye names the ways in which a client ordinarily leaves.
func isGoodbye(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, errIdle) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &op) && !op.Timeout()
}

var (
	errIdle = errors.New("idle for too long")
	// errRest is no error: the client has nothing to say for now.
	errRest = errors.New("at rest")
)

func (c *conn) readLoop(ctx, hard context.Context) error {
	if !c.entered {
		if err := c.enter(ctx); err != nil {
			return err
		}
		c.entered = true
	}
	for {
		if !c.moreWaiting() {
			if err := c.flush(); err != nil {
				return err
			}
		}
		req, free, err := c.next(ctx)
		if err != nil {
			return err
		}
		if req.key != kmsg.Produce.Int16() { // it may wait, and answers before it must not
			if err := c.flush(); err != nil {
				free()
				return err
			}
		}
		begin := time.Now()
		req.answer, err = c.handle(ctx, req, free)
		took := time.Since(begin)
		c.s.Metrics.request(req.key, took)
		if err != nil {
			return err
		}
		wait := c.throttle(req, took)
		req.body, req.msg = nil, nil
		if err := c.respond(hard, req); err != nil {
			return err
		}
		if wait > 0 {
			if err := c.mute(ctx, wait); err != nil {
				return err
			}
		}
		if c.guard.session.failed {
			return errRefused
		}
	}
}

func (c *conn) handle(ctx context.Context, req *request, free func()) (answer, error) {
	defer free()
	return c.s.byKey[req.key].handle(c.s, ctx, req)
}

// moreWaiting reports whether a whole request has been read ahead.
func (c *conn) moreWaiting() bool {
	n := c.in.buffered()
	if n < sizeBytes {
		return false
	}
	b, _ := c.in.peek(sizeBytes)
	return int64(n) >= sizeBytes+int64(binary.BigEndian.Uint32(b))
}

// next reads and decodes one request. free gives its memory back.
func (c *conn) next(ctx context.Context) (req *request, free func(), err error) {
	size, err := c.readSize()
	if err != nil {
		return nil, nil, err
	}
	if c.guard.session.wantsRaw() {
		return c.rawToken(ctx, size)
	}
	if most := c.mostBytes(); size < minHeader || size > most {
		return nil, nil, fmt.Errorf("request of %d bytes, %d to %d are allowed", size, minHeader, most)
	}
	key, err := c.peekKey()
	if err != nil {
		return nil, nil, err
	}
	if err := c.admit(key); err != nil {
		return nil, nil, err
	}
	held, err := c.reserve(ctx, key, int64(size))
	if err != nil {
		return nil, nil, err
	}
	free = held.release
	if err := c.readBody(held.buf, held.from, key == kmsg.Produce); err != nil {
		free()
		return nil, nil, fmt.Errorf("read a request of %d bytes: %w", size, err)
	}
	if req, err = c.s.parseHeader(held.buf, held); err != nil {
		free()
		return nil, nil, err
	}
	req.conn, req.from, req.size, req.sums = c.nc, c, size, c.sums
	c.s.Metrics.BytesIn.Add(float64(size))
	return req, free, nil
}

// readSize waits for the next request; errRest says that there may be none for
// long.
func (c *conn) readSize() (int32, error) {
	if c.idle {
		return 0, errIdle
	}
	wait, rests := c.s.IdleTimeout, c.mayRest()
	if rests {
		wait = restAfter
	}
	b, err := c.peekSize(wait)
	if rests && isTimeout(err) {
		if len(b) == 0 {
			return 0, errRest
		}
		b, err = c.peekSize(c.s.IdleTimeout)
	}
	switch {
	case err == nil:
	case isTimeout(err) && len(b) == 0:
		return 0, errIdle
	default:
		return 0, err
	}
	size := int32(binary.BigEndian.Uint32(b))
	c.in.skip(sizeBytes)
	return size, nil
}

func (c *conn) peekSize(wait time.Duration) ([]byte, error) {
	if c.in.buffered() < sizeBytes {
		if err := c.deadline(wait); err != nil {
			return nil, err
		}
	}
	return c.in.peek(sizeBytes)
}

// mayRest reports whether nothing of the connection is under way.
func (c *conn) mayRest() bool {
	if c.in.raw == nil || c.in.buffered() > 0 || !c.guard.open || c.s.IdleTimeout <= restAfter {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.writing
}

// deadline sets the time by which the client must have sent something.
func (c *conn) deadline(d time.Duration) error {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.patience(d))); err != nil {
		return err
	}
	if c.hanging.Load() { // do not undo hangUp
		return net.ErrClosed
	}
	return nil
}

// peekKey looks at the request's api key.
func (c *conn) peekKey() (kmsg.Key, error) {
	if c.in.buffered() < 2 {
		if err := c.deadline(c.s.TransferTimeout); err != nil {
			return 0, err
		}
	}
	b, err := c.in.peek(2)
	if err != nil {
		return 0, err
	}
	return kmsg.Key(binary.BigEndian.Uint16(b)), nil
}

// reserve waits for the request's memory, before any of it is read.
func (c *conn) reserve(ctx context.Context, key kmsg.Key, size int64) (*holding, error) {
	h := &holding{m: c.s.memory, from: c.s.memory.control}
	switch {
	case !c.guard.open && size > strangerFree:
		h.from = c.s.memory.strangers
	case key == kmsg.Produce:
		h.from, h.pooled = c.s.memory.forRecords(int64(size)), true
	case size > h.from.size/2:
		return nil, fmt.Errorf("%s request of %d bytes, at most %d are allowed", key.Name(), size, h.from.size/2)
	case key == kmsg.Fetch:
		h.pooled = true
	}
	n, ok := h.from.tryAcquire(int64(roundUp(int(size))))
	if !ok { // it may take long, and answers before it must not
		if err := c.flush(); err != nil {
			return nil, err
		}
		if _, err := h.from.acquire(ctx, c.address(), n); err != nil {
			return nil, err
		}
	}
	h.bytes = n
	h.take(int(size))
	return h, nil
}

// address is where the client is, without its port.
func (c *conn) address() string { return auth.HostOf(c.nc.RemoteAddr()) }

// lookEvery is how often a client that is sending a request is looked at.
const lookEvery = 250 * time.Millisecond

// readBody fills b, whose memory is of a budget, and sums it up on the way if
// asked to. The client has the time that a slow link takes, and must not pause
// for longer than the transfer timeout; nobody holds memory that others wait for
// by sending a byte now and then.
func (c *conn) readBody(b []byte, from *budget, sum bool) error {
	c.sums = c.sums[:0]
	patience := c.s.TransferTimeout
	moved := time.Now()
	even := moved // what has come is what minSpeed gives until then, and never more
	end := moved.Add(c.patience(patience + time.Duration(len(b)/minSpeed)*time.Second))
	for at := 0; at < len(b); {
		rest := b[at:min(len(b), at+sumPiece)]
		if c.in.buffered() < len(rest) {
			if err := c.deadline(min(lookEvery, time.Until(moved.Add(patience)), time.Until(end))); err != nil {
				return err
			}
		}
		n, err := c.in.read(rest)
		at += n
		if sum {
			c.sums = c.sums.arrived(b, at)
		}
		if err != nil && !isTimeout(err) {
			return err
		}
		now := time.Now()
		if n > 0 {
			moved, even = now, even.Add(time.Duration(n)*time.Second/minSpeed)
		}
		if even.After(now) {
			even = now
		}
		stall, wanted := from.stall()
		if err != nil && (now.After(end) || now.Sub(moved) >= patience || wanted && now.Sub(even) >= stall) {
			return err
		}
	}
	return nil
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
