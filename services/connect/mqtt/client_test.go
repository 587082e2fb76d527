package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// device is an MQTT client that does what it is told and nothing else, so
// that a test sees each packet.
type device struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	v5   bool
}

// packet types (MQTT 5.0, table 2-1), in the high four bits.
const (
	connectType    = 0x10
	connackType    = 0x20
	publishType    = 0x30
	pubackType     = 0x40
	pubrecType     = 0x50
	pubrelType     = 0x62 // with its fixed flags
	pubcompType    = 0x70
	pingreqType    = 0xC0
	pingrespType   = 0xD0
	disconnectType = 0xE0
)

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func connect(t *testing.T, addr, id string, v5 bool) *device {
	t.Helper()
	d := &device{t: t, conn: dial(t, addr), v5: v5}
	d.r = bufio.NewReader(d.conn)
	body := append(text("MQTT"), 4, 0x02, 0, 60) // version, clean, keep alive
	if v5 {
		body[6] = 5
		body = append(body, 0) // no properties
	}
	d.send(connectType, append(body, text(id)...))
	if typ, _ := d.read(); typ != connackType {
		t.Fatalf("got packet %#x, want CONNACK", typ)
	}
	return d
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func frame(typ byte, body []byte) []byte {
	b := []byte{typ}
	for n := len(body); ; {
		digit := byte(n % 128)
		if n /= 128; n > 0 {
			b = append(b, digit|128)
			continue
		}
		return append(append(b, digit), body...)
	}
}

func (d *device) send(typ byte, body []byte) {
	d.t.Helper()
	if _, err := d.conn.Write(frame(typ, body)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) publication(topic, payload string, qos byte, id uint16) []byte {
	body := text(topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	if d.v5 {
		body = append(body, 0)
	}
	return frame(publishType|qos<<1, append(body, payload...))
}

func (d *device) publish(topic, payload string, qos byte, id uint16) {
	d.t.Helper()
	if _, err := d.conn.Write(d.publication(topic, payload, qos, id)); err != nil {
		d.t.Fatal(err)
	}
}

// next reads a packet; io.EOF is a connection the broker has closed.
func (d *device) next(wait time.Duration) (typ byte, body []byte, err error) {
	_ = d.conn.SetReadDeadline(time.Now().Add(wait))
	if typ, err = d.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(d.r) // the same encoding
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(d.r, body)
	return typ & 0xF0, body, err
}

func (d *device) read() (byte, []byte) {
	d.t.Helper()
	typ, body, err := d.next(15 * time.Second)
	if err != nil {
		d.t.Fatalf("read packet: %v", err)
	}
	return typ, body
}

// wantAck reads an acknowledgement of a packet id and returns its reason.
func (d *device) wantAck(typ byte, id uint16) (reason byte) {
	d.t.Helper()
	got, body := d.read()
	if got != typ&0xF0 || len(body) < 2 || binary.BigEndian.Uint16(body) != id {
		d.t.Fatalf("got packet %#x % x, want %#x of id %d", got, body, typ, id)
	}
	if len(body) > 2 {
		return body[2]
	}
	return 0
}

// wantSilence is true when nothing arrives.
func (d *device) wantSilence(wait time.Duration) {
	d.t.Helper()
	typ, body, err := d.next(wait)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		d.t.Fatalf("got packet %#x % x, error %v, want nothing", typ, body, err)
	}
}

// wantClosed reads until the broker closes, and returns what came before.
func (d *device) wantClosed() (types []byte) {
	d.t.Helper()
	for {
		typ, _, err := d.next(15 * time.Second)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			d.t.Fatal("the connection was not closed")
		}
		if err != nil {
			return types
		}
		types = append(types, typ)
	}
}
