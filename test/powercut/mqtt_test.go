package powercut

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// mqttTopic is where the profile that a box has without one puts messages.
const mqttTopic = "mqtt"

// device publishes over MQTT 3.1.1 with a session that stays, one message
// after the other, each again until it is acknowledged, through any number of
// power cuts. It is no library's client: those that there are in Go keep what
// is under way differently from what the standard says (4.4).
type device struct {
	name string
	qos  byte // 1 or 2

	mu       sync.Mutex
	acked    int  // messages 0 to acked-1 are the box's: PUBACK, or PUBREC
	received bool // of the message acked-1: PUBREC came, PUBCOMP did not (QoS 2)
	sent     bool // the message acked was sent at least once
	cuts     int  // connections that broke with a message under way
}

func (d *device) text(n int) string { return fmt.Sprintf("%s %06d", d.name, n) }

// run publishes until ctx ends.
func (d *device) run(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		if d.connected(ctx, addr) != nil {
			select {
			case <-time.After(100 * time.Millisecond): // the box is off, or starts
			case <-ctx.Done():
			}
		}
	}
}

// connected publishes over one connection until it breaks.
func (d *device) connected(ctx context.Context, addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	id := append([]byte{0, byte(len(d.name))}, d.name...)
	hello := append([]byte{0x10, byte(10 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 0 /* the session stays */, 0, 60}, id...)
	if err := exchange(c, hello, 0x20); err != nil {
		return err
	}
	for {
		if err := d.one(c); err != nil {
			d.mu.Lock()
			d.cuts++
			d.mu.Unlock()
			return err
		}
	}
}

// one brings the next message to the box, or the one under way.
func (d *device) one(c net.Conn) error {
	d.mu.Lock()
	n, received, again := d.acked, d.received, d.sent
	d.mu.Unlock()
	if received {
		if err := d.release(c, n-1); err != nil {
			return err
		}
	}
	topic, text := "cut/"+d.name, d.text(n)
	head := 0x30 | d.qos<<1
	if again {
		head |= 8 // DUP
	}
	p := append([]byte{head, byte(2 + len(topic) + 2 + len(text)), 0, byte(len(topic))}, topic...)
	p = append(binary.BigEndian.AppendUint16(p, packet(n)), text...)
	d.mu.Lock()
	d.sent = true
	d.mu.Unlock()
	if err := exchange(c, p, map[byte]byte{1: 0x40, 2: 0x50}[d.qos]); err != nil { // PUBACK, PUBREC
		return err
	}
	d.mu.Lock()
	d.acked, d.received, d.sent = n+1, d.qos == 2, false
	d.mu.Unlock()
	if d.qos == 2 {
		return d.release(c, n)
	}
	return nil
}

// release sends PUBREL, until PUBCOMP comes.
func (d *device) release(c net.Conn, n int) error {
	if err := exchange(c, binary.BigEndian.AppendUint16([]byte{0x62, 2}, packet(n)), 0x70); err != nil {
		return err
	}
	d.mu.Lock()
	d.received = false
	d.mu.Unlock()
	return nil
}

func packet(n int) uint16 { return uint16(n%60000 + 1) }

// exchange sends a packet and waits for the answer to it, of four bytes all.
func exchange(c net.Conn, p []byte, want byte) error {
	if _, err := c.Write(p); err != nil {
		return err
	}
	var got [4]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return err
	}
	code := got[3]
	if want != 0x20 {
		code = 0
	}
	if got[0] != want || code != 0 {
		return fmt.Errorf("answer % x, want type %#x", got, want)
	}
	return nil
}

// devices are what hangs on a box.
type devices struct {
	all []*device
	wg  sync.WaitGroup
	end context.CancelFunc
}

func attach(t *testing.T, box *harness.Box) *devices {
	ctx, end := context.WithCancel(t.Context())
	ds := &devices{end: end, all: []*device{{name: "q1", qos: 1}, {name: "q2-a", qos: 2}, {name: "q2-b", qos: 2}}}
	for _, d := range ds.all {
		ds.wg.Go(func() { d.run(ctx, box.Addr("mqtt")) })
	}
	t.Cleanup(ds.stop)
	return ds
}

func (ds *devices) stop() {
	ds.end()
	ds.wg.Wait()
}

// progress waits until each device has brought n messages more.
func (ds *devices) progress(t *testing.T, n int) {
	t.Helper()
	want := map[*device]int{}
	for _, d := range ds.all {
		d.mu.Lock()
		want[d] = d.acked + n
		d.mu.Unlock()
	}
	harness.Eventually(t, 3*time.Minute, "acknowledgements for MQTT devices", func(context.Context) error {
		for _, d := range ds.all {
			d.mu.Lock()
			acked := d.acked
			d.mu.Unlock()
			if acked < want[d] {
				return fmt.Errorf("device %s has %d, want %d", d.name, acked, want[d])
			}
		}
		return nil
	})
}

// check reads all that is committed: what was acknowledged is there, of QoS 2 once.
func (ds *devices) check(t *testing.T, box *harness.Box, round int) (again int) {
	t.Helper()
	acked := make([]int, len(ds.all))
	for i, d := range ds.all {
		d.mu.Lock()
		acked[i] = d.acked
		if d.received {
			acked[i]-- // the box has it and hands it on with PUBREL
		}
		d.mu.Unlock()
	}
	seen := map[string]int{}
	for _, r := range harness.ReadCommitted(t, box.Addr("kafka"), mqttTopic) {
		seen[string(r.Value)]++
	}
	for i, d := range ds.all {
		for n := range acked[i] {
			switch times := seen[d.text(n)]; {
			case times == 0:
				t.Errorf("round %d: %q was acknowledged and is lost", round, d.text(n))
			case times > 1 && d.qos == 2:
				t.Errorf("round %d: %q of QoS 2 is there %d times", round, d.text(n), times)
			case times > 1:
				again++
			}
		}
	}
	return again
}
