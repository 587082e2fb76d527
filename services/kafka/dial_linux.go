package kafka

import (
	"crypto/tls"
	"net"
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

// Gone is true once the other end of a connection has closed it, or it has
// failed, although nobody has read from it since: nothing is sent, nothing is
// read. A connection that this end is about to close is not gone.
func Gone(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err != nil || info.State != unix.BPF_TCP_ESTABLISHED
	})
	return err != nil || gone
}
