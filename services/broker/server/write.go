package server

import (
	"context"
	"io"
	"time"
)

// flushAt is how many bytes of answers are collected before they are sent
// although more are ready.
const flushAt = 64 << 10

// respond writes req's answer, or collects it to leave together with the next
// ones. An answer that waits for the disk, and all behind it, are left to
// writeQueue, so that the requests that follow are handled meanwhile.
func (c *conn) respond(hard context.Context, req *request) error {
	c.mu.Lock()
	later := req.answer.later
	if !c.writing && (later == nil || later.ready()) {
		c.mu.Unlock()
		return c.out.send(hard, req)
	}
	defer c.mu.Unlock()
	for len(c.queue) >= inFlight && c.broken == nil {
		c.room.Wait()
	}
	if c.broken != nil {
		req.answer.release()
		return c.broken
	}
	c.queue = append(c.queue, req)
	if !c.writing {
		c.writing = true
		c.writers.Go(func() { c.writeQueue(hard) })
	}
	return nil
}

// flush sends what is collected, unless writeQueue does so anyway.
func (c *conn) flush() error {
	c.mu.Lock()
	writing := c.writing
	c.mu.Unlock()
	if writing {
		return nil
	}
	c.out.flush()
	return c.out.err
}

// writeQueue writes answers in order until there are no more. Answers that
// are ready together leave in one write. After an error it only takes what
// comes, so that the reader is never stuck.
func (c *conn) writeQueue(hard context.Context) {
	var err error
	for {
		req := c.queued(err)
		if req == nil {
			return
		}
		if err == nil {
			err = guarded(func() error { return c.out.send(hard, req) })
		}
		if err == nil && c.out.drained() {
			c.out.flush()
			err = c.out.err
		}
		req.answer.release()
	}
}

// queued takes the next answer, or ends writing when there is none.
func (c *conn) queued(err error) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.broken == nil {
		c.broken = err
		c.nc.Close()
	}
	c.room.Signal()
	if len(c.queue) == 0 {
		c.queue, c.writing = nil, false
		return nil
	}
	req := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	return req
}

// sender collects answers into one buffer, which it gives back when it has
// nothing to send.
type sender struct {
	c   *conn
	buf []byte
	err error
}

// send writes an answer to the buffer, after waiting for the disk if it must.
func (w *sender) send(hard context.Context, r *request) error {
	defer r.answer.release()
	if w.err == nil && r.answer.later != nil {
		w.complete(hard, r)
	}
	w.answer(r)
	if len(w.buf) >= flushAt {
		w.flush()
	}
	return w.err
}

// complete waits for the disk, after sending what is complete already.
func (w *sender) complete(hard context.Context, r *request) {
	if len(w.buf) > 0 && !r.answer.later.ready() {
		w.flush()
	}
	r.answer.later.wait(hard)
}

// drained reports whether no answer is queued.
func (w *sender) drained() bool {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	return len(w.c.queue) == 0
}

func (w *sender) answer(r *request) {
	if w.err != nil {
		return
	}
	if w.buf == nil {
		w.buf = w.c.s.memory.get(0)[:0]
	}
	switch {
	case r.answer.fetch != nil:
		w.fetch(r, r.answer.fetch)
	case r.answer.raw != nil:
		w.buf = appendRaw(w.buf, r.answer.raw)
	case r.answer.msg != nil:
		w.buf = appendResponse(w.buf, r, r.answer.msg)
	}
}

// flush sends the buffer and gives it back.
func (w *sender) flush() {
	if w.buf == nil {
		return
	}
	if len(w.buf) > 0 && w.err == nil {
		_, w.err = w.Write(w.buf)
	}
	w.c.s.memory.put(w.buf)
	w.buf = nil
}

// chunk is how much must leave within the transfer timeout, in bytes.
const chunk = 256 << 10

// Write sends b to the client, chunk by chunk, each with its own deadline: a
// slow client is served, a dead one is dropped.
func (w *sender) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		part := b[sent:min(len(b), sent+chunk)]
		if err := w.c.nc.SetWriteDeadline(time.Now().Add(w.c.s.TransferTimeout)); err != nil {
			return sent, err
		}
		n, err := w.c.nc.Write(part)
		sent += n
		if err != nil {
			return sent, err
		}
	}
	w.c.s.Metrics.BytesOut.Add(float64(sent))
	return sent, nil
}

var _ io.Writer = (*sender)(nil)
