package kafka

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unanswered is how long sent bytes may go without an answer of the peer's
// TCP, in milliseconds, before a connection counts as dead. Keep-alives do
// not probe while something is on its way, and the kernel alone would send it
// again for a quarter of an hour.
const unanswered = 30_000

func unansweredLimit(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unanswered)
	}); e != nil {
		return e
	}
	return err
}
