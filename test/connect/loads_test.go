package connect

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"
)

// client is one sender of numbered messages.
type client interface {
	// send sends message n. It waits where the protocol has it so, or too many
	// are not acknowledged.
	send(n int) error
	// Close waits for acknowledgements that are on their way.
	Close() error
}

// dialer makes a client whose messages have so many bytes of payload; acked is
// told of each that the far end has acknowledged.
type dialer func(addr string, id, payload int, acked func(n int)) (client, error)

// text is a message's payload: its number, and what fills it up.
func text(n, payload int) string {
	s := fmt.Sprintf("number %d ", n)
	return s + strings.Repeat("x", max(0, payload-len(s)))
}

// number finds in a record what text put there; -1 if there is none.
func number(value []byte) (n int) {
	_, after, ok := strings.Cut(string(value), "number ")
	if _, err := fmt.Sscanf(after, "%d", &n); !ok || err != nil {
		return -1
	}
	return n
}

// datagrams is a client that writes what pack makes of a text.
type datagrams struct {
	net.Conn
	payload int
	pack    func(text string) []byte
}

func (d *datagrams) send(n int) error {
	_, err := d.Write(d.pack(text(n, d.payload)))
	return err
}

func writer(network string, pack func(id int, text string) []byte) dialer {
	return func(addr string, id, payload int, _ func(int)) (client, error) {
		conn, err := net.Dial(network, addr)
		return &datagrams{conn, payload, func(text string) []byte { return pack(id, text) }}, err
	}
}

func syslogMessage(id int, text string) []byte {
	return fmt.Appendf(nil, "<164>1 2026-11-28T15:00:00.000Z host-%d press 42 - - %s", id, text)
}

var (
	syslogUDP = writer("udp", syslogMessage)
	syslogTCP = writer("tcp", func(id int, text string) []byte {
		m := syslogMessage(id, text)
		return append(fmt.Appendf(nil, "%d ", len(m)), m...)
	})
	snmpTraps = writer("udp", func(id int, text string) []byte {
		p := &gosnmp.SnmpPacket{Version: gosnmp.Version2c, Community: "public", PDUType: gosnmp.SNMPv2Trap, Variables: []gosnmp.SnmpPDU{
			{Name: ".1.3.6.1.2.1.1.3.0", Type: gosnmp.TimeTicks, Value: uint32(42)},
			{Name: ".1.3.6.1.6.3.1.1.4.1.0", Type: gosnmp.ObjectIdentifier, Value: ".1.3.6.1.6.3.1.1.5.3"},
			{Name: ".1.3.6.1.2.1.1.6.0", Type: gosnmp.OctetString, Value: text},
		}}
		b, err := p.MarshalMsg()
		if err != nil {
			panic(err) // a message that this test makes
		}
		return b
	})
)

// poster posts each message and waits for the answer.
type poster struct {
	net.Conn
	r       *bufio.Reader
	payload int
	acked   func(int)
}

func httpPosts(addr string, _, payload int, acked func(int)) (client, error) {
	conn, err := net.Dial("tcp", addr)
	return &poster{conn, bufio.NewReader(conn), payload, acked}, err
}

func (p *poster) send(n int) error {
	body := `{"value":"` + text(n, p.payload) + `"}`
	if _, err := fmt.Fprintf(p, "POST /values HTTP/1.1\r\nHost: box\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	switch {
	case resp.StatusCode/100 == 2:
		p.acked(n)
	case resp.StatusCode != http.StatusServiceUnavailable: // which means to send again
		return fmt.Errorf("answer %s", resp.Status)
	}
	return nil
}

// publisher publishes in MQTT, of QoS 1 so many messages before the first is
// acknowledged.
type publisher struct {
	net.Conn
	topic   string
	qos     byte
	payload int
	acked   func(int)
	window  chan int      // messages that are not acknowledged yet, in order
	read    chan struct{} // closed when no acknowledgement comes any more
}

const publisherWindow = 100

func mqttPublisher(qos byte) dialer {
	return func(addr string, id, payload int, acked func(int)) (client, error) {
		conn, err := mqttDial(addr, fmt.Sprintf("load-%d-%d", qos, id))
		if err != nil {
			return nil, err
		}
		p := &publisher{conn, fmt.Sprintf("values/%d/%d", qos, id), qos, payload, acked, make(chan int, publisherWindow), make(chan struct{})}
		go p.readAcks()
		return p, nil
	}
}

func (p *publisher) readAcks() {
	defer close(p.read)
	var ack [4]byte
	for {
		if _, err := io.ReadFull(p, ack[:]); err != nil || ack[0] != 0x40 {
			return
		}
		p.acked(<-p.window)
	}
}

func (p *publisher) send(n int) error {
	body := append(binary.BigEndian.AppendUint16(nil, uint16(len(p.topic))), p.topic...)
	if p.qos > 0 {
		select {
		case p.window <- n:
		case <-p.read:
			return io.ErrUnexpectedEOF
		}
		body = binary.BigEndian.AppendUint16(body, uint16(n%60000+1))
	}
	body = append(body, text(n, p.payload)...)
	packet := binary.AppendUvarint([]byte{0x30 | p.qos<<1}, uint64(len(body)))
	_, err := p.Write(append(packet, body...))
	return err
}

func (p *publisher) Close() error {
	for end := time.Now().Add(10 * time.Second); len(p.window) > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	err := p.Conn.Close()
	<-p.read
	return err
}

// pushing has clients send one message after the other for a time.
func pushing(dial dialer, clients, payload int) func(testing.TB, string, time.Duration) int {
	return func(t testing.TB, addr string, d time.Duration) int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		var sent atomic.Int64
		var wg sync.WaitGroup
		for id := range clients {
			wg.Go(func() {
				c, err := dial(addr, id, payload, func(int) {})
				if err != nil {
					t.Errorf("load: %v", err)
					return
				}
				defer c.Close()
				for n := id; ctx.Err() == nil; n += clients {
					if err := c.send(n); err != nil {
						t.Errorf("load: %v", err)
						return
					}
					sent.Add(1)
				}
			})
		}
		wg.Wait()
		return int(sent.Load())
	}
}
