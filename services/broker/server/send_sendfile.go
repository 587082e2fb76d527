//go:build linux

package server

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// sendfile lets the kernel copy records from the page cache to the socket;
// false when file or socket are not of the kind. The file's own position is
// not used: many connections read one file.
func (w *sender) sendfile(s *store.Slice) (bool, error) {
	file, pos := s.File()
	src, ok := file.(vfs.HasFile)
	if !ok {
		return false, nil
	}
	tcp, ok := w.c.nc.(*net.TCPConn)
	if !ok {
		return false, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false, err
	}
	in := int(src.OSFile().Fd())
	for left := s.Len(); left > 0; {
		if err := tcp.SetWriteDeadline(time.Now().Add(w.c.s.TransferTimeout)); err != nil {
			return true, err
		}
		n, err := w.sendSome(raw, in, &pos, int(min(left, chunk)))
		if err != nil {
			return true, fmt.Errorf("send records: %w", err)
		}
		left -= int64(n)
		w.c.s.Metrics.BytesOut.Add(float64(n))
	}
	return true, nil
}

// sendSome waits until the socket takes something.
func (w *sender) sendSome(raw syscall.RawConn, in int, pos *int64, max int) (n int, err error) {
	werr := raw.Write(func(out uintptr) bool {
		w.c.s.reads.begin()
		defer w.c.s.reads.end()
		for {
			n, err = unix.Sendfile(int(out), in, pos, max)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case werr != nil:
		return 0, werr
	case err != nil:
		return 0, os.NewSyscallError("sendfile", err)
	case n == 0:
		return 0, io.ErrUnexpectedEOF // the file is shorter than its log
	}
	return n, nil
}
