package mqtt

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// resume connects with a session that is kept. For MQTT 5 it lasts an hour.
func resume(t *testing.T, addr, id string, v5 bool) (d *device, present bool) {
	t.Helper()
	d = &device{t: t, conn: dial(t, addr), v5: v5}
	d.r = bufio.NewReader(d.conn)
	body := append(text("MQTT"), 4, 0, 0, 60)
	if v5 {
		body[6] = 5
		body = append(body, 5, 17, 0, 0, 0x0e, 0x10) // session expiry interval
	}
	d.send(connectType, append(body, text(id)...))
	typ, ack := d.read()
	if typ != connackType || ack[1] != 0 {
		t.Fatalf("got packet %#x % x, want CONNACK of success", typ, ack)
	}
	return d, ack[0] == 1
}

func (d *device) subscribe(filter string, qos byte) {
	d.t.Helper()
	body := []byte{0, 9}
	if d.v5 {
		body = append(body, 0)
	}
	d.send(0x82, append(append(body, text(filter)...), qos))
	if typ, b := d.read(); typ != 0x90 || b[len(b)-1] != qos {
		d.t.Fatalf("got packet %#x % x, want SUBACK with QoS %d", typ, b, qos)
	}
}

// got is a PUBLISH as a subscriber sees it.
type got struct {
	topic, payload string
	qos            byte
	id             uint16
	dup, retain    bool
}

func (d *device) publication1() got {
	d.t.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(15 * time.Second))
	first, err := d.r.ReadByte()
	if err != nil {
		d.t.Fatalf("read PUBLISH: %v", err)
	}
	n, _ := binary.ReadUvarint(d.r)
	b := make([]byte, n)
	if _, err := io.ReadFull(d.r, b); err != nil || first&0xF0 != publishType {
		d.t.Fatalf("got packet %#x % x, error %v, want PUBLISH", first, b, err)
	}
	g := got{qos: first >> 1 & 3, dup: first&8 != 0, retain: first&1 != 0}
	l := binary.BigEndian.Uint16(b)
	g.topic, b = string(b[2:2+l]), b[2+l:]
	if g.qos > 0 {
		g.id, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if d.v5 {
		b = b[1+b[0]:]
	}
	g.payload = string(b)
	return g
}

func (d *device) ack(typ byte, id uint16) {
	d.t.Helper()
	d.send(typ, binary.BigEndian.AppendUint16(nil, id))
}

// publishAll publishes with QoS 1 and waits for the answers.
func (d *device) publishAll(topic string, payloads ...string) {
	d.t.Helper()
	for i, p := range payloads {
		d.publish(topic, p, 1, uint16(i+1))
		d.wantAck(pubackType, uint16(i+1))
	}
}

// away is a session whose client is gone; the messages that come meanwhile
// are there when it is back, also after a restart of the service.
func TestSessionOutlivesRestart(t *testing.T) {
	for _, v5 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v5=%v", v5), func(t *testing.T) {
			kafka := cluster(t)
			_, addr, stop := start(t, kafka.ListenAddrs())
			sub, present := resume(t, addr, "s", v5)
			if present {
				t.Error("a session is present before there was one")
			}
			sub.subscribe("alarm/#", 1)
			pub := connect(t, addr, "p", v5)
			pub.publishAll("alarm/1", "a", "b")
			g := sub.publication1()
			sub.ack(pubackType, g.id)
			if g.payload != "a" || g.qos != 1 {
				t.Errorf("got %+v, want a with QoS 1", g)
			}
			sub.publication1() // b, not acknowledged
			sub.conn.Close()
			pub.publishAll("alarm/1", "c")
			stop()

			_, addr, stop = start(t, kafka.ListenAddrs())
			connect(t, addr, "p2", v5).publishAll("alarm/2", "d")
			sub, present = resume(t, addr, "s", v5)
			if !present {
				t.Fatal("the session is gone")
			}
			var all []string
			for len(all) < 3 {
				g := sub.publication1()
				sub.ack(pubackType, g.id)
				if g.dup != (g.payload == "b") {
					t.Errorf("%+v: want dup for b and for nothing else", g)
				}
				all = append(all, g.payload)
			}
			if fmt.Sprint(all) != "[b c d]" {
				t.Errorf("got %v, want b, which was not acknowledged, c and d", all)
			}
			pub = connect(t, addr, "p3", v5)
			pub.publishAll("alarm/3", "live")
			if g := sub.publication1(); g.payload != "live" {
				t.Errorf("got %+v, want live", g)
			}
			stop()
		})
	}
}

// A PUBLISH with QoS 2 that comes again after a restart is not stored twice,
// and its identifier is free after PUBREL, also over a restart.
func TestQoS2OnceOverRestart(t *testing.T) {
	kafka := cluster(t)
	_, addr, stop := start(t, kafka.ListenAddrs())
	d, _ := resume(t, addr, "d", false)
	d.publish("alarm/1", "one", 2, 7)
	d.wantAck(pubrecType, 7)
	d.publish("alarm/1", "two", 2, 8)
	d.wantAck(pubrecType, 8)
	d.send(pubrelType, []byte{0, 8})
	d.wantAck(pubcompType, 8)
	stop()

	_, addr, stop = start(t, kafka.ListenAddrs())
	d, present := resume(t, addr, "d", false)
	if !present {
		t.Fatal("the session is gone")
	}
	d.publish("alarm/1", "one", 2, 7) // again
	d.wantAck(pubrecType, 7)
	d.publish("alarm/1", "three", 2, 8) // another
	d.wantAck(pubrecType, 8)
	d.send(pubrelType, []byte{0, 7})
	d.wantAck(pubcompType, 7)
	stop()
	wantValues(t, committed(t, kafka.ListenAddrs(), "alarms", 3), "one", "two", "three")
}

// Outgoing QoS 2: what PUBREC has answered is not sent again after a restart,
// PUBREL is; what was complete is not repeated.
func TestOutgoingQoS2OverRestart(t *testing.T) {
	kafka := cluster(t)
	_, addr, stop := start(t, kafka.ListenAddrs())
	sub, _ := resume(t, addr, "s", false)
	sub.subscribe("alarm/#", 2)
	pub := connect(t, addr, "p", false)
	for i, p := range []string{"complete", "released", "sent"} {
		id := uint16(i + 1)
		pub.publish("alarm/1", p, 2, id)
		pub.wantAck(pubrecType, id)
		pub.send(pubrelType, binary.BigEndian.AppendUint16(nil, id))
		pub.wantAck(pubcompType, id)
	}
	var ids []uint16
	for range 3 {
		g := sub.publication1()
		if g.qos != 2 {
			t.Fatalf("got %+v, want QoS 2", g)
		}
		ids = append(ids, g.id)
	}
	sub.ack(pubrecType, ids[0])
	sub.wantAck(pubrelType, ids[0])
	sub.ack(pubcompType, ids[0])
	sub.ack(pubrecType, ids[1])
	sub.wantAck(pubrelType, ids[1])
	sub.conn.Close()
	stop()

	_, addr, stop = start(t, kafka.ListenAddrs())
	sub, _ = resume(t, addr, "s", false)
	sub.wantAck(pubrelType, ids[1])
	g := sub.publication1()
	if g.payload != "sent" || g.id != ids[2] || !g.dup {
		t.Errorf("got %+v, want sent again with identifier %d", g, ids[2])
	}
	sub.ack(pubcompType, ids[1])
	sub.ack(pubrecType, ids[2])
	sub.wantAck(pubrelType, ids[2])
	sub.ack(pubcompType, ids[2])
	sub.wantSilence(300 * time.Millisecond)
	stop()
}

func TestRetainedOutlivesRestart(t *testing.T) {
	kafka := cluster(t)
	_, addr, stop := start(t, kafka.ListenAddrs())
	d := connect(t, addr, "d", false)
	for i, m := range []struct{ topic, payload string }{{"alarm/1", "old"}, {"alarm/1", "new"}, {"alarm/2", "gone"}, {"alarm/2", ""}} {
		b := d.publication(m.topic, m.payload, 1, uint16(i+1))
		b[0] |= 1
		if _, err := d.conn.Write(b); err != nil {
			t.Fatal(err)
		}
		d.wantAck(pubackType, uint16(i+1))
	}
	stop()
	_, addr, _ = start(t, kafka.ListenAddrs())
	d = connect(t, addr, "d", false)
	d.subscribe("alarm/#", 1)
	if g := d.publication1(); g.payload != "new" || !g.retain || g.topic != "alarm/1" {
		t.Errorf("got %+v, want new, retained", g)
	}
	d.wantSilence(200 * time.Millisecond)
}

// Records of a Kafka topic reach subscribers, those that were away included,
// and what is published by MQTT to the same Kafka topic comes once.
func TestPublications(t *testing.T) {
	kafka := cluster(t, kfake.SeedTopics(1, "commands"))
	bridge := func(c *Config) {
		c.Routes = []site.Route{{Filter: "#", Topic: "commands"}}
		c.Publish = []site.Publication{{Topic: "commands", To: "plant/{key}/set", QoS: 1, Retain: true}}
	}
	put := func(key, value string) {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		r := &kgo.Record{Topic: "commands", Key: []byte(key), Value: []byte(value)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put("7", "before")
	c, addr, stop := start(t, kafka.ListenAddrs(), bridge)
	// Else "before" comes twice: as retained, and as the feed gets to it.
	eventually(t, "the feed is behind it", func() bool { return c.feed.positions()[part{"commands", 0}] > 0 })
	sub, _ := resume(t, addr, "s", false)
	sub.subscribe("plant/+/set", 1)
	next := func(payload, topic string) got {
		t.Helper()
		g := sub.publication1()
		sub.ack(pubackType, g.id)
		if g.payload != payload || g.topic != topic || g.qos != 1 {
			t.Errorf("got %+v, want %s at %s with QoS 1", g, payload, topic)
		}
		return g
	}
	next("before", "plant/7/set")
	put("7", "open")
	next("open", "plant/7/set")
	put("no/+/wildcard", "x")
	connect(t, addr, "p", false).publishAll("plant/9/set", "by mqtt")
	next("by mqtt", "plant/9/set")
	sub.wantSilence(200 * time.Millisecond)
	sub.conn.Close()
	stop()
	put("8", "while away")
	_, addr, _ = start(t, kafka.ListenAddrs(), bridge)
	sub, present := resume(t, addr, "s", false)
	if !present {
		t.Fatal("the session is gone")
	}
	next("while away", "plant/8/set")
	fresh := connect(t, addr, "fresh", false)
	fresh.subscribe("plant/7/#", 1)
	if g := fresh.publication1(); g.payload != "open" || !g.retain {
		t.Errorf("got %+v, want open, retained", g)
	}
}

// A session that does not keep up, or whose client is away for more messages
// than memory takes, misses nothing and sees them in order.
func TestBehind(t *testing.T) {
	const n = 3 * maxPending
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	sub, _ := resume(t, addr, "s", false)
	sub.subscribe("alarm/#", 1)
	pub := connect(t, addr, "p", false)
	var all []byte
	for i := range n {
		all = append(all, pub.publication("alarm/1", strconv.Itoa(i), 1, uint16(i+1))...)
	}
	if _, err := pub.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for i := range n { // meanwhile the subscriber acknowledges nothing
		pub.wantAck(pubackType, uint16(i+1))
	}
	for i := range n {
		g := sub.publication1()
		if g.payload != strconv.Itoa(i) {
			t.Fatalf("message %d is %s", i, g.payload)
		}
		sub.ack(pubackType, g.id)
	}
	pub.publish("alarm/1", "last", 1, 1)
	if g := sub.publication1(); g.payload != "last" {
		t.Errorf("got %+v, want last", g)
	}
}

func TestSharedSubscription(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	one, two := connect(t, addr, "one", true), connect(t, addr, "two", true)
	one.subscribe("$share/g/alarm/#", 1)
	two.subscribe("$share/g/alarm/#", 1)
	connect(t, addr, "p", false).publishAll("alarm/1", "a", "b", "c", "d")
	seen := map[string]bool{}
	var left []got
	for range 2 {
		for _, d := range []*device{one, two} {
			g := d.publication1()
			seen[g.payload] = true
			if d == one {
				left = append(left, g)
			} else {
				d.ack(pubackType, g.id)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("members got %v, want each of four messages once", seen)
	}
	one.conn.Close() // without a word: what it had not acknowledged goes to the other
	back := map[string]bool{}
	for range left {
		back[two.publication1().payload] = true
	}
	for _, g := range left {
		if !back[g.payload] {
			t.Errorf("%s was not given to the other member", g.payload)
		}
	}
}

func committed(t testing.TB, addrs []string, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var rs []*kgo.Record
	for len(rs) < n && ctx.Err() == nil {
		rs = append(rs, cl.PollFetches(ctx).Records()...)
	}
	return rs
}

func wantValues(t testing.TB, rs []*kgo.Record, want ...string) {
	t.Helper()
	var values []string
	for _, r := range rs {
		values = append(values, string(r.Value))
	}
	if fmt.Sprint(values) != fmt.Sprint(want) {
		t.Errorf("records = %v, want %v", values, want)
	}
}
