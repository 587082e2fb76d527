//go:build linux

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxNote is the longest message of sd_notify(3) that is read, in bytes.
const maxNote = 4096

// note is one message of sd_notify(3).
type note struct {
	pid       int // of the sender, from the kernel
	ready     bool
	keepalive bool
	trigger   bool
	stopping  bool
	status    *string
	extend    time.Duration
}

// parseNote reads the lines that are understood and passes over the others,
// as the protocol wants.
func parseNote(pid int, text string) note {
	n := note{pid: pid}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "READY":
			n.ready = value == "1"
		case "STOPPING":
			n.stopping = value == "1"
		case "WATCHDOG":
			n.keepalive = value == "1"
			n.trigger = value == "trigger"
		case "STATUS":
			s := printable(value)
			n.status = &s
		case "EXTEND_TIMEOUT_USEC":
			if usec, err := strconv.ParseInt(value, 10, 32); err == nil && usec > 0 {
				n.extend = time.Duration(usec) * time.Microsecond
			}
		}
	}
	return n
}

// notifySocket is a service's NOTIFY_SOCKET. It lives as long as the
// supervisor: a service that is restarted finds the same path.
type notifySocket struct {
	path string
	conn *net.UnixConn
}

func listenNotify(path string) (*notifySocket, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old notify socket: %v", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen on notify socket: %v", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var opt error
		err = raw.Control(func(fd uintptr) {
			opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		})
		err = errors.Join(err, opt)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask for senders on notify socket %s: %v", path, err)
	}
	return &notifySocket{path, conn}, nil
}

// give lets one user send; nobody else may.
func (n *notifySocket) give(who account) error {
	if err := chown(n.path, who); err != nil {
		return fmt.Errorf("give notify socket to its service: %v", err)
	}
	return os.Chmod(n.path, 0o600)
}

// receive hands on messages until the socket is closed or ctx ends.
func (n *notifySocket) receive(ctx context.Context, log *slog.Logger, out chan<- note) {
	buf, oob := make([]byte, maxNote), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		size, oobSize, _, _, err := n.conn.ReadMsgUnix(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Warn("read notify socket", "path", n.path, "err", err)
			return
		}
		pid, err := sender(oob[:oobSize])
		if err != nil {
			log.Warn("notify message dropped", "path", n.path, "err", err)
			continue
		}
		select {
		case out <- parseNote(pid, string(buf[:size])):
		case <-ctx.Done():
			return
		}
	}
}

// sender reads the pid that the kernel attached (unix(7), SCM_CREDENTIALS).
func sender(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, fmt.Errorf("sender is not known: %v", err)
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			return int(cred.Pid), nil
		}
	}
	return 0, errors.New("sender is not known")
}
