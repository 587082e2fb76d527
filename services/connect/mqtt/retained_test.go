package mqtt

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// retain publishes a retained message.
func (d *device) retain(topic, payload string, qos byte, id uint16) {
	d.t.Helper()
	body := text(topic)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	d.send(publishType|qos<<1|1, append(body, payload...))
}

// What is retained is what was published last, though an earlier message of
// QoS 1 or 2 reaches Kafka after it.
func TestRetainedIsTheLastPublished(t *testing.T) {
	for _, last := range []string{"new", ""} {
		for qos, ack := range map[byte]byte{1: pubackType, 2: pubrecType} {
			kafka := cluster(t)
			c, addr, stop := start(t, kafka.ListenAddrs())
			d, _ := resume(t, addr, "d", false)
			release := hold(t, kafka)
			d.retain("alarm/1", "old", qos, 7)
			eventually(t, "the first is on its way", func() bool {
				c.retained.mu.Lock()
				defer c.retained.mu.Unlock()
				return c.retained.flying["alarm/1"] != nil
			})
			d.retain("alarm/1", last, 0, 0)
			d.send(pingreqType, nil) // both were read
			if typ, _ := d.read(); typ != pingrespType {
				t.Fatalf("got packet %#x, want PINGRESP", typ)
			}
			release()
			d.wantAck(ack, 7)
			check := func(when string) {
				t.Helper()
				got := ""
				if m := c.retained.get("alarm/1"); m != nil {
					got = string(m.payload)
				}
				if got != last {
					t.Errorf("QoS %d, then QoS 0: %s %q is retained, want %q", qos, when, got, last)
				}
			}
			check("then")
			stop()
			c, _, _ = start(t, kafka.ListenAddrs())
			select { // sessions are there before what is retained
			case <-c.loaded:
			case <-time.After(15 * time.Second):
				t.Fatal("the state is not read")
			}
			check("after a restart")
			if n := len(c.retained.flying); n != 0 {
				t.Errorf("%d topics still wait", n)
			}
		}
	}
}

// The last message is retained whichever way it came: QoS 2 has another way
// to Kafka than QoS 1.
func TestRetainedOfTwoWays(t *testing.T) {
	kafka := cluster(t)
	c, addr, stop := start(t, kafka.ListenAddrs())
	d, _ := resume(t, addr, "d", false)
	for i := range uint16(40) {
		d.retain("alarm/1", "two", 2, 2*i+1)
		d.retain("alarm/1", "one", 1, 2*i+2)
	}
	for i := range uint16(40) {
		d.wantAck(pubrecType, 2*i+1)
		d.wantAck(pubackType, 2*i+2)
	}
	if m := c.retained.get("alarm/1"); m == nil || string(m.payload) != "one" {
		t.Errorf("retained is %v, want that of QoS 1, which came last", m)
	}
	stop()
	l, err := loadState(t.Context(), c.reader)
	if err != nil {
		t.Fatal(err)
	}
	if m := l.retained["alarm/1"]; m == nil || string(m.payload) != "one" {
		t.Errorf("the state ends with %v, want that of QoS 1", m)
	}
}

// A transaction that reaches Kafka after the message of another device, which
// came later, does not bring back the old one: the state is written again.
func TestRetainedIsNotOvertaken(t *testing.T) {
	kafka := cluster(t)
	c, addr, stop := start(t, kafka.ListenAddrs())
	slow, _ := resume(t, addr, "slow", false)
	fast := connect(t, addr, "fast", false)
	release := holdThose(t, kafka, func(r *kmsg.ProduceRequest) bool { return r.TransactionID != nil })
	slow.retain("alarm/1", "old", 2, 7)
	eventually(t, "the first is on its way", func() bool {
		c.retained.mu.Lock()
		defer c.retained.mu.Unlock()
		return c.retained.flying["alarm/1"] != nil
	})
	fast.retain("alarm/1", "new", 1, 8)
	fast.wantAck(pubackType, 8)
	release()
	slow.wantAck(pubrecType, 7)
	stop()
	l, err := loadState(t.Context(), c.reader)
	if err != nil {
		t.Fatal(err)
	}
	if m := l.retained["alarm/1"]; m == nil || string(m.payload) != "new" {
		t.Errorf("the state ends with %v, want new, which was published last", m)
	}
}
