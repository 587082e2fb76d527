package mqttclient

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// far is a broker elsewhere, behind a cable, as little of one as the suite
// needs: it lets everybody in, keeps one session, that of client "gateway",
// and publishes with QoS 1.
type far struct {
	*connecttest.Cable
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	known bool // the session was there before
	last  uint16
	queue []*publication // not acknowledged by gateway, in order
	conns map[*farConn]bool
}

type publication struct {
	id      uint16
	payload string
	done    chan struct{}
}

// farConn is a client that is connected.
type farConn struct {
	net.Conn
	client     string
	v5         bool
	subscribed bool
}

func newFar(t *testing.T) *far {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &far{Cable: connecttest.NewCable(t, ln.Addr().String()), ln: ln, conns: map[*farConn]bool{}}
	f.wg.Go(f.accept)
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f
}

func (f *far) accept() {
	for {
		conn, err := f.ln.Accept()
		if err != nil {
			return
		}
		c := &farConn{Conn: conn}
		f.mu.Lock()
		f.conns[c] = true
		f.mu.Unlock()
		f.wg.Go(func() { f.serve(c) })
	}
}

func (f *far) serve(c *farConn) {
	defer func() {
		c.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.conns, c)
	}()
	r := bufio.NewReader(c)
	for {
		typ, err := r.ReadByte()
		if err != nil {
			return
		}
		n, err := binary.ReadUvarint(r) // the same encoding
		if err != nil || n > 1<<20 {
			return
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil || !f.packet(c, typ&0xf0, body) {
			return
		}
	}
}

// packet answers one (MQTT 5.0, chapter 3, and 3.1.1); false ends the
// connection.
func (f *far) packet(c *farConn, typ byte, body []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch typ {
	case 0x10: // CONNECT
		c.v5 = body[6] == 5
		rest := body[10:]
		if c.v5 {
			rest = rest[1+rest[0]:]
		}
		c.client = string(rest[2 : 2+binary.BigEndian.Uint16(rest)])
		for other := range f.conns {
			if other != c && other.client == c.client { // taken over (3.1.4-3)
				other.Close()
			}
		}
		present := byte(0)
		if c.client == "gateway" && f.known {
			present = 1
		}
		f.known = f.known || c.client == "gateway"
		c.say(0x20, present, 0)
	case 0x80: // SUBSCRIBE, of one filter
		ack := body[:2:2]
		if c.v5 {
			ack = append(ack, 0)
		}
		c.send(0x90, append(ack, 1))
		c.subscribed = true
		if c.client == "gateway" {
			for _, p := range f.queue {
				c.publish(p, 0x08)
			}
		}
	case 0x40: // PUBACK
		i := slices.IndexFunc(f.queue, func(p *publication) bool { return p.id == binary.BigEndian.Uint16(body) })
		if i >= 0 && c.client == "gateway" {
			close(f.queue[i].done)
			f.queue = slices.Delete(f.queue, i, i+1)
		}
	case 0xc0: // PINGREQ
		c.send(0xd0, nil)
	case 0xe0: // DISCONNECT
		return false
	}
	return true
}

// say sends a packet whose properties, which MQTT 5 has behind, are none.
func (c *farConn) say(typ byte, body ...byte) {
	if c.v5 {
		body = append(body, 0)
	}
	c.send(typ, body)
}

func (c *farConn) send(typ byte, body []byte) {
	_, _ = c.Write(append(binary.AppendUvarint([]byte{typ}, uint64(len(body))), body...))
}

func (c *farConn) publish(p *publication, flags byte) {
	const topic = "plant/value"
	body := append([]byte{0, byte(len(topic))}, topic...)
	body = binary.BigEndian.AppendUint16(body, p.id)
	if c.v5 {
		body = append(body, 0)
	}
	c.send(0x32|flags, append(body, p.payload...))
}

func (f *far) Start() { f.Plug() }
func (f *far) Stop()  { f.Cut() }

// Emit publishes a value, and returns when gateway has acknowledged it.
func (f *far) Emit(v int64) error {
	f.mu.Lock()
	if f.last++; f.last == 0 {
		f.last = 1
	}
	p := &publication{id: f.last, payload: fmt.Sprintf(`{"value":%d}`, v), done: make(chan struct{})}
	f.queue = append(f.queue, p)
	for c := range f.conns {
		if c.subscribed {
			c.publish(p, 0)
		}
	}
	f.mu.Unlock()
	if !f.Plugged() {
		return errors.New("the cable is cut: it comes when it is plugged in")
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(20 * time.Second):
		return errors.New("it was not acknowledged")
	}
}
