package server

import (
	"context"
	"io"
	"time"
)

// flushAt is how many bytes of answers are collected before they are sent
// although more are ready.
const flushAt = 64 << 10

// writeLoop writes answers in order until there are no more. Answers that are
// ready together leave in one write. After an error it only takes what comes,
// so that the reader is never stuck.
func (c *conn) writeLoop(hard context.Context) {
	w := &sender{c: c}
	for r := range c.out {
		if w.err == nil && r.answer.later != nil {
			w.complete(hard, r)
		}
		w.answer(r)
		r.answer.fetch.release()
		if w.err == nil && (len(c.out) == 0 || len(w.buf) >= flushAt) {
			w.flush()
		}
		if w.err != nil && !w.failed {
			w.failed = true
			close(c.dead)
			c.nc.Close()
		}
	}
	if w.err == nil {
		w.flush()
	}
}

// sender collects answers into one buffer, which it gives back when it has
// nothing to send.
type sender struct {
	c      *conn
	buf    []byte
	err    error
	failed bool
}

// complete waits for the disk, after sending what is complete already.
func (w *sender) complete(hard context.Context, r *request) {
	if len(w.buf) > 0 && !r.answer.later.ready() {
		w.flush()
	}
	r.answer.later.wait(hard)
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
	case r.answer.msg != nil:
		w.buf = appendResponse(w.buf, r, r.answer.msg)
	}
}

// flush sends the buffer and gives it back.
func (w *sender) flush() {
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
