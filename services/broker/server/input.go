package server

import (
	"io"
	"net"
	"syscall"
)

// inputSize is how much is read ahead: some small requests.
const inputSize = 8 << 10

// input reads a connection ahead. It holds its buffer only while bytes are in
// it, so that a thousand idle clients cost no buffers.
type input struct {
	nc   net.Conn
	raw  syscall.RawConn // nil: not a plain socket, the buffer is held while waiting
	mem  *memory
	buf  []byte // nil while nothing is buffered
	r, w int    // what is buffered
	look bool   // step only looks whether there is something
	step func(fd uintptr) bool
	n    int // what step read
	err  error
}

func newInput(nc net.Conn, mem *memory) *input {
	in := &input{nc: nc, mem: mem}
	if tcp, ok := nc.(*net.TCPConn); ok && canReadLate {
		if raw, err := tcp.SyscallConn(); err == nil {
			in.raw, in.step = raw, in.readReady
		}
	}
	return in
}

// buffered is what can be had without waiting.
func (in *input) buffered() int { return in.w - in.r }

// peek waits for n bytes, at most inputSize, and leaves them buffered. On an
// error it returns what there is.
func (in *input) peek(n int) ([]byte, error) {
	for in.buffered() < n {
		if err := in.fill(); err != nil {
			return in.buf[in.r:in.w], err
		}
	}
	return in.buf[in.r : in.r+n], nil
}

// skip drops n buffered bytes.
func (in *input) skip(n int) {
	if in.r += n; in.r == in.w {
		in.drop()
	}
}

func (in *input) drop() {
	if in.buf != nil {
		in.mem.put(in.buf)
	}
	in.buf, in.r, in.w = nil, 0, 0
}

// read fills p, and returns how much of it when that fails. What is longer
// than the buffer does not go through it.
func (in *input) read(p []byte) (n int, err error) {
	for {
		m := copy(p[n:], in.buf[in.r:in.w])
		in.skip(m)
		if n += m; n == len(p) {
			return n, nil
		}
		if len(p)-n >= inputSize {
			m, err = io.ReadFull(in.nc, p[n:])
			return n + m, err
		}
		if err = in.fill(); err != nil {
			return n, err
		}
	}
}

// await waits until there is something to read, or an end of it, and needs
// neither a buffer nor much of a stack. It is for plain sockets.
func (in *input) await() error {
	in.look = true
	err := in.raw.Read(in.step)
	in.look = false
	return err
}

// fill waits for at least one byte more.
func (in *input) fill() error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.raw == nil {
		in.take()
		in.n, in.err = in.nc.Read(in.buf[in.w:])
	} else if err := in.raw.Read(in.step); err != nil { // deadline or closed
		in.n, in.err = 0, err
	}
	in.w += in.n
	switch {
	case in.n > 0:
		return nil
	case in.err == nil:
		in.err = io.EOF
	}
	if in.w == 0 {
		in.drop()
	}
	return in.err
}

func (in *input) take() {
	if in.buf == nil {
		in.buf = in.mem.get(inputSize)
	}
}
