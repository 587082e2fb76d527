package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// pipes is a listener without sockets.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	gone  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), gone: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// patience is how long an answer may take, in the history's own time.
const patience = 3 * time.Minute

// dial connects; an error means that the broker is not there any more.
func (p *pipes) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.gone:
		return nil, net.ErrClosed
	case <-time.After(patience):
		return nil, errors.New("nobody accepts connections")
	}
}

// client is one connection; one request at a time.
type client struct {
	nc   net.Conn
	corr int32
}

// errLate says that there was no answer in time.
var errLate = errors.New("no answer")

func (c *client) ask(req kmsg.Request) (kmsg.Response, error) {
	c.corr++
	c.nc.SetDeadline(time.Now().Add(patience))
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("model")).AppendRequest(nil, req, c.corr)
	if _, err := c.nc.Write(frame); err != nil {
		return nil, late(err)
	}
	var head [8]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return nil, late(err)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != c.corr {
		return nil, fmt.Errorf("correlation id %d, want %d", got, c.corr)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c.nc, body); err != nil {
		return nil, late(err)
	}
	resp := req.ResponseKind()
	if req.IsFlexible() {
		body = body[1:] // no tags in the header
	}
	resp.SetVersion(req.GetVersion())
	return resp, resp.ReadFrom(body)
}

func late(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return errLate
	}
	return err
}
