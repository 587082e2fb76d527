package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	gridx "github.com/grid-x/modbus"
	"github.com/grid-x/serial"

	"github.com/waysideos/wayside/services/site"
)

// link is one connection to a device or gateway, opened by the first request.
// One request is under way at a time.
type link struct {
	handler gridx.ClientHandler
	client  gridx.Client
	pause   time.Duration // between an answer and the next request
	last    time.Time     // of the last answer
}

// open makes a link that is closed when ctx ends, whatever it waits for.
func open(ctx context.Context, cfg *site.Modbus, timeout, pause time.Duration) *link {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: max(timeout, 3*time.Second)}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if cfg.Transport == site.ModbusRTUOverTCP {
			conn = wholeFrames{conn}
		}
		return endWith(ctx, conn), nil
	}
	l := &link{pause: pause}
	const keep = -1 // idle connections stay open
	switch cfg.Transport {
	case site.ModbusRTU:
		h := gridx.NewRTUClientHandler(cfg.Address)
		h.Config = serial.Config{
			Address: cfg.Address, BaudRate: cfg.Serial.Baud, DataBits: 8, StopBits: cfg.Serial.StopBits,
			Parity: map[string]string{"none": "N", "even": "E", "odd": "O"}[cfg.Serial.Parity], Timeout: timeout,
		}
		h.IdleTimeout = keep
		l.handler = h
	case site.ModbusRTUOverTCP:
		h := gridx.NewRTUOverTCPClientHandler(cfg.Address)
		h.Timeout, h.IdleTimeout, h.Dial = timeout, keep, dial
		l.handler = h
	default:
		h := gridx.NewTCPClientHandler(cfg.Address, gridx.WithDialer(dial))
		h.Timeout, h.IdleTimeout = timeout, keep
		l.handler = h
	}
	l.client = gridx.NewClient(l.handler)
	return l
}

// boundConn is a connection that its context's end closes.
type boundConn struct {
	net.Conn
	stop func() bool
}

func endWith(ctx context.Context, conn net.Conn) net.Conn {
	return boundConn{conn, context.AfterFunc(ctx, func() { conn.Close() })}
}

func (c boundConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// wholeFrames has the first read of a frame return at least the shortest one,
// an exception: the library takes four bytes of it for all when its fifth
// comes in a packet of its own, as terminal servers send it.
type wholeFrames struct{ net.Conn }

func (c wholeFrames) Read(p []byte) (int, error) {
	return io.ReadAtLeast(c.Conn, p, min(5, len(p)))
}

// close lets the connection go; the next request opens a new one.
func (l *link) close() { l.handler.Close() }

// request waits for the pause and does one exchange. Whatever is no answer
// closes the connection: what comes late would be taken for the next answer.
func (l *link) request(ctx context.Context, unit byte, do func(gridx.Client) ([]byte, error)) ([]byte, error) {
	if err := sleep(ctx, time.Until(l.last.Add(l.pause))); err != nil {
		return nil, err
	}
	l.handler.SetSlave(unit)
	answer, err := do(l.client)
	l.last = time.Now()
	if err != nil && exception(err) == 0 {
		l.close()
	}
	return answer, err
}

// read returns what a span's request brought: registers of 2 bytes, or bits,
// eight in a byte, never fewer than were asked for.
func (l *link) read(ctx context.Context, s *span) ([]byte, error) {
	answer, err := l.request(ctx, s.unit, func(c gridx.Client) ([]byte, error) {
		switch s.table {
		case site.ModbusCoil:
			return c.ReadCoils(ctx, s.start, uint16(s.count))
		case site.ModbusDiscrete:
			return c.ReadDiscreteInputs(ctx, s.start, uint16(s.count))
		case site.ModbusInput:
			return c.ReadInputRegisters(ctx, s.start, uint16(s.count))
		}
		return c.ReadHoldingRegisters(ctx, s.start, uint16(s.count))
	})
	want := 2 * s.count
	if s.table.Bits() {
		want = (s.count + 7) / 8
	}
	if err == nil && len(answer) != want {
		l.close()
		return nil, fmt.Errorf("the answer holds %d bytes where %d were asked for", len(answer), want)
	}
	return answer, err
}

// write sends a point's encoded value.
func (l *link) write(ctx context.Context, p *point, raw []byte) error {
	at := p.address.Number
	send := func(do func(gridx.Client) ([]byte, error)) error {
		_, err := l.request(ctx, p.unit, do)
		return err
	}
	err := send(func(c gridx.Client) ([]byte, error) {
		switch {
		case p.registers == 0:
			return c.WriteSingleCoil(ctx, at, uint16(raw[0])*0xff00)
		case p.bit >= 0:
			bit := uint16(1) << p.bit
			return c.MaskWriteRegister(ctx, at, ^bit, uint16(raw[0])<<8|uint16(raw[1]))
		case p.registers == 1:
			return c.WriteSingleRegister(ctx, at, uint16(raw[0])<<8|uint16(raw[1]))
		}
		return c.WriteMultipleRegisters(ctx, at, uint16(p.registers), raw)
	})
	if exception(err) != illegalFunction || p.registers != 1 {
		return err
	}
	// Some devices know the function for many registers only, most do not
	// know that for the bits of one.
	if p.bit >= 0 {
		old, err := l.read(ctx, spanOf([]*point{p}))
		if err != nil {
			return err
		}
		word := binary.BigEndian.Uint16(old)&^(1<<p.bit) | binary.BigEndian.Uint16(raw)
		raw = binary.BigEndian.AppendUint16(nil, word)
	}
	return send(func(c gridx.Client) ([]byte, error) { return c.WriteMultipleRegisters(ctx, at, 1, raw) })
}

// exception is the code with which the device itself refused, 0 for any other
// error and for none. The library takes an answer to another function for an
// exception too.
func exception(err error) byte {
	var e *gridx.Error
	if errors.As(err, &e) && e.FunctionCode&0x80 != 0 {
		return e.ExceptionCode
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
