package nbd

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
)

// Serve accepts connections until the listener is closed or the disk is gone,
// and returns when all of them have ended. It closes the listener.
func Serve(l net.Listener, d *Disk) {
	var work sync.WaitGroup
	ended := make(chan struct{})
	work.Go(func() {
		select {
		case <-d.cut:
		case <-ended:
		}
		l.Close()
	})
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		work.Go(func() { ServeConn(conn, d) })
	}
	close(ended)
	work.Wait()
}

// ServeConn serves one client and closes conn. It returns when the client has
// gone or the disk's power is cut; nil means that the client said good-bye.
func ServeConn(conn io.ReadWriteCloser, d *Disk) error {
	var work sync.WaitGroup
	ended := make(chan struct{})
	work.Go(func() { // a cut closes the connection under whatever goes on
		select {
		case <-d.cut:
			conn.Close()
		case <-ended:
		}
	})
	err := (&session{disk: d, conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}).serve()
	close(ended)
	conn.Close()
	work.Wait()
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// session is one connection. Requests are done in the order they come, except
// flushes: those run beside, so that writes can arrive while one is going on.
type session struct {
	disk    *Disk
	r       *bufio.Reader
	conn    io.ReadWriteCloser
	mu      sync.Mutex // one reply at a time on conn
	flushes sync.WaitGroup
}

func (s *session) serve() error {
	defer s.flushes.Wait()
	if err := negotiate(struct {
		io.Reader
		io.Writer
	}{s.r, s.conn}, s.disk.Size()); err != nil {
		return err
	}
	var head [requestSize]byte
	for {
		if _, err := io.ReadFull(s.r, head[:]); err != nil {
			return err
		}
		req, err := parseRequest(head[:])
		if err != nil {
			return err
		}
		if err := s.handle(req); err != nil {
			return err
		}
	}
}

// handle does one request. An error ends the connection.
func (s *session) handle(req request) error {
	switch req.kind {
	case cmdRead:
		return s.read(req)
	case cmdWrite:
		return s.write(req)
	case cmdFlush:
		s.flushes.Go(func() { s.reply(req, s.disk.Flush(), nil) })
		return nil
	case cmdDisc:
		return errDone
	}
	return s.reply(req, errBadRequest, nil)
}

var errBadRequest = errors.New("request is not valid")

func (s *session) read(req request) error {
	if !req.valid(s.disk.Size()) {
		return s.reply(req, errBadRequest, nil)
	}
	data := make([]byte, req.length)
	_, err := s.disk.ReadAt(data, int64(req.offset))
	return s.reply(req, err, data)
}

func (s *session) write(req request) error {
	data := make([]byte, req.length)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return err
	}
	if !req.valid(s.disk.Size()) {
		return s.reply(req, errBadRequest, nil)
	}
	return s.reply(req, s.disk.Write(data, int64(req.offset), req.flags&cmdFlagFUA != 0), nil)
}

// reply answers a request. After a cut nothing is said any more: a write that
// the disk has lost must not be acknowledged.
func (s *session) reply(req request, err error, data []byte) error {
	var errno uint32
	switch {
	case errors.Is(err, ErrCut):
		return ErrCut
	case errors.Is(err, errBadRequest):
		errno, data = errInval, nil
	case err != nil:
		errno, data = errIO, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, werr := s.conn.Write(append(simpleReply(req.cookie, errno), data...))
	return werr
}
