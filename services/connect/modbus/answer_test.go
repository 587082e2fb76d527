package modbus

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	gridx "github.com/grid-x/modbus"

	"github.com/waysideos/wayside/services/site"
)

// FuzzAnswer: whatever a device answers, a read gives all that was asked for
// or an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x00\x00\x07\x01\x03\x04\x00\x01\x00\x02"), false)
	f.Add([]byte("\x00\x01\x00\x00\x00\x03\x01\x83\x02"), false)
	f.Add([]byte("\x01\x03\x04\x00\x01\x00\x02\x2a\x32"), true)
	f.Add([]byte("\x01\x83\x02\xc0\xf1"), true)
	p := &point{codec: codec{registers: 2, bit: -1}, unit: 1, address: site.ModbusAddress{Table: site.ModbusHolding, Bit: -1}}
	f.Fuzz(func(t *testing.T, b []byte, rtu bool) {
		dial := func(context.Context, string, string) (net.Conn, error) {
			return &answering{Reader: bytes.NewReader(b)}, nil
		}
		l := &link{}
		if rtu {
			h := gridx.NewRTUOverTCPClientHandler("")
			h.Timeout, h.Dial = time.Second, func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return wholeFrames{conn}, err
			}
			l.handler = h
		} else {
			h := gridx.NewTCPClientHandler("", gridx.WithDialer(dial))
			h.Timeout = time.Second
			l.handler = h
		}
		l.client = gridx.NewClient(l.handler)
		defer l.close()
		s := spanOf([]*point{p})
		answer, err := l.read(t.Context(), s)
		if raw, ok := s.cut(p, answer); err == nil && (!ok || len(raw) != 4) {
			t.Errorf("%x became %x, of it %x", b, answer, raw)
		}
	})
}

// answering is a connection to a device that says the same to everything.
type answering struct {
	*bytes.Reader
	net.Conn
}

func (a *answering) Read(p []byte) (int, error)     { return a.Reader.Read(p) }
func (*answering) Write(p []byte) (int, error)      { return len(p), nil }
func (*answering) Close() error                     { return nil }
func (*answering) SetDeadline(time.Time) error      { return nil }
func (*answering) SetReadDeadline(time.Time) error  { return nil }
func (*answering) SetWriteDeadline(time.Time) error { return nil }
