//go:build linux

package server

import (
	"os"

	"golang.org/x/sys/unix"
)

// canReadLate: a buffer can be taken when a socket has something to read.
const canReadLate = true

// readReady reads what the socket has; false when it has nothing yet, and
// then the buffer is not kept either.
func (in *input) readReady(fd uintptr) bool {
	if in.look {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil
	}
	in.take()
	for {
		n, err := unix.Read(int(fd), in.buf[in.w:])
		switch err {
		case nil:
			in.n, in.err = n, nil
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if in.w == 0 {
				in.drop()
			}
			return false
		}
		in.n, in.err = 0, os.NewSyscallError("read", err)
		return true
	}
}
