package mqtt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/site"
)

var routes = []site.Route{{Filter: "alarm/#", Topic: "alarms"}, {Filter: "plant/+/temp", Topic: "sensors"}}

func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "alarms", "sensors")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// start serves devices until the test ends, or stop.
func start(t testing.TB, broker []string, change ...func(*Config)) (c *Connector, addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Listener: ln, Routes: routes, Broker: broker, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	if c, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-c.Ready()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	return c, ln.Addr().String(), stop
}

// records reads n records of a topic from its start.
func records(t testing.TB, addrs []string, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond))
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
	if len(rs) != n {
		t.Fatalf("topic %s holds %d records, want %d", topic, len(rs), n)
	}
	return rs
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The contract of README.md, with a client others wrote.
func TestRecordContract(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	cl := paho.NewClient(paho.ClientConfig{Conn: dial(t, addr)})
	if _, err := cl.Connect(t.Context(), &paho.Connect{ClientID: "pump-7", KeepAlive: 30, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Truncate(time.Millisecond)
	_, err := cl.Publish(t.Context(), &paho.Publish{
		Topic: "alarm/pump/7", Payload: []byte{0, 1, 0xFF}, QoS: 1, Retain: true,
		Properties: &paho.PublishProperties{
			ContentType: "application/octet-stream", ResponseTopic: "cmd/7", CorrelationData: []byte("c1"),
			User: paho.UserProperties{{Key: "unit", Value: "bar"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := records(t, kafka.ListenAddrs(), "alarms", 1)[0]
	got := map[string]string{"key": string(r.Key), "value": string(r.Value)}
	for _, h := range r.Headers {
		got[h.Key] = string(h.Value)
	}
	want := map[string]string{
		"key": "alarm/pump/7", "value": "\x00\x01\xff",
		"mqtt.client": "pump-7", "mqtt.qos": "1", "mqtt.retain": "1",
		"mqtt.content-type": "application/octet-stream", "mqtt.response-topic": "cmd/7",
		"mqtt.correlation-data": "c1", "mqtt.user.unit": "bar",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if r.Timestamp.Before(before) || r.Timestamp.After(time.Now()) {
		t.Errorf("timestamp %v is not the box's time", r.Timestamp)
	}
}

// hold keeps produce requests unanswered until release.
func hold(t testing.TB, c *kfake.Cluster) (release func()) {
	return holdThose(t, c, func(*kmsg.ProduceRequest) bool { return true })
}

func holdThose(t testing.TB, c *kfake.Cluster, those func(*kmsg.ProduceRequest) bool) (release func()) {
	open := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if those(r.(*kmsg.ProduceRequest)) {
			c.SleepControl(func() { <-open })
		}
		return nil, nil, false
	})
	release = sync.OnceFunc(func() { close(open) })
	t.Cleanup(release) // or the cluster of a test that has failed never closes
	return release
}

func TestAcknowledgedOnlyAfterKafka(t *testing.T) {
	for _, tc := range []struct {
		name string
		v5   bool
		qos  byte
		ack  byte
	}{{"QoS 1, MQTT 3.1.1", false, 1, pubackType}, {"QoS 1, MQTT 5", true, 1, pubackType}, {"QoS 2", false, 2, pubrecType}} {
		t.Run(tc.name, func(t *testing.T) {
			kafka := cluster(t)
			release := hold(t, kafka)
			_, addr, _ := start(t, kafka.ListenAddrs())
			d := connect(t, addr, "d", tc.v5)
			d.publish("alarm/1", "fire", tc.qos, 7)
			d.wantSilence(300 * time.Millisecond)
			d.send(pingreqType, nil) // the device is served meanwhile
			if typ, _ := d.read(); typ != pingrespType {
				t.Fatalf("got packet %#x, want PINGRESP", typ)
			}
			release()
			if reason := d.wantAck(tc.ack, 7); reason != 0 {
				t.Errorf("reason = %#x, want success", reason)
			}
			records(t, kafka.ListenAddrs(), "alarms", 1)
		})
	}
}

func TestQoS2IsStoredOnce(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	d := connect(t, addr, "d", false)
	for range 2 { // the second is a repetition: same packet id, not yet released
		d.publish("alarm/1", "fire", 2, 7)
		d.wantAck(pubrecType, 7)
	}
	d.send(pubrelType, []byte{0, 7})
	d.wantAck(pubcompType, 7)
	d.publish("alarm/1", "next", 2, 7)
	d.wantAck(pubrecType, 7)
	rs := records(t, kafka.ListenAddrs(), "alarms", 2)
	if got := string(rs[0].Value) + " " + string(rs[1].Value); got != "fire next" {
		t.Errorf("records = %q, want %q", got, "fire next")
	}
}

func TestQoS0AndLastWillAreStored(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	connect(t, addr, "d", false).publish("plant/3/temp", "21", 0, 0)
	if got := string(records(t, kafka.ListenAddrs(), "sensors", 1)[0].Value); got != "21" {
		t.Errorf("value = %q, want 21", got)
	}
	conn := dial(t, addr)
	cl := paho.NewClient(paho.ClientConfig{Conn: conn})
	will := &paho.WillMessage{Topic: "alarm/gone", Payload: []byte("d2"), QoS: 1}
	if _, err := cl.Connect(t.Context(), &paho.Connect{ClientID: "d2", CleanStart: true, WillMessage: will}); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if r := records(t, kafka.ListenAddrs(), "alarms", 1)[0]; string(r.Key) != "alarm/gone" || string(r.Value) != "d2" {
		t.Errorf("will = %s %s, want alarm/gone d2", r.Key, r.Value)
	}
}

func TestUnroutedIsRefused(t *testing.T) {
	kafka := cluster(t)
	c, addr, _ := start(t, kafka.ListenAddrs())

	d := connect(t, addr, "five", true)
	d.publish("nobody/wants", "x", 1, 1)
	d.publish("alarm/1", "x", 1, 2)
	d.publish("nobody/wants", "x", 2, 3)
	d.publish("nobody/wants", "x", 0, 0)
	if got := d.wantAck(pubackType, 1); got != 0x90 {
		t.Errorf("PUBACK reason = %#x, want 0x90, topic name invalid", got)
	}
	if got := d.wantAck(pubackType, 2); got != 0 {
		t.Errorf("PUBACK reason of a good message = %#x, want success", got)
	}
	if got := d.wantAck(pubrecType, 3); got != 0x90 {
		t.Errorf("PUBREC reason = %#x, want 0x90, topic name invalid", got)
	}

	d = connect(t, addr, "three", false)
	d.publish("alarm/1", "x", 1, 1)
	d.publish("nobody/wants", "x", 1, 2)
	if got := d.wantClosed(); !bytes.Equal(got, []byte{pubackType}) {
		t.Errorf("before it was closed an MQTT 3.1.1 device got % x, want one PUBACK", got)
	}

	d = connect(t, addr, "sys", false)
	d.publish("$SYS/broker/version", "x", 1, 1)
	d.wantClosed()

	records(t, kafka.ListenAddrs(), "alarms", 2)
	if got := counter(t, c, "wayside_mqtt_refused_messages_total"); got != 5 {
		t.Errorf("%v refused messages counted, want 5", got)
	}
	if rep := c.Status(); !rep.OK || len(rep.Facts) < 3 || !strings.HasPrefix(rep.Facts[2].Value, "$SYS/broker/version of client sys: no route") {
		t.Errorf("Status = %+v, want OK and the last refusal named", rep)
	}
}

func counter(t *testing.T, c *Connector, name string) (sum float64) {
	t.Helper()
	fams, err := c.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fams {
		for _, m := range f.Metric {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// One device, QoS 1, a window of 100: all acknowledged, in order, all stored.
func TestManyInFlight(t *testing.T) {
	const n, inFlight = 10000, 100
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	d := connect(t, addr, "d", false)
	payload := strings.Repeat("x", 100)
	began := time.Now()
	for sent, acked := 0, 0; acked < n; {
		var burst []byte
		for ; sent < n && sent-acked < inFlight; sent++ {
			burst = append(burst, d.publication("alarm/1", payload+strconv.Itoa(sent), 1, uint16(sent+1))...)
		}
		if _, err := d.conn.Write(burst); err != nil {
			t.Fatal(err)
		}
		for more := true; more && acked < n; more = d.r.Buffered() >= 4 {
			d.wantAck(pubackType, uint16(acked+1))
			acked++
		}
	}
	took := time.Since(began)
	t.Logf("%d messages in %v: %.0f a second", n, took.Round(time.Millisecond), n/took.Seconds())
	for i, r := range records(t, kafka.ListenAddrs(), "alarms", n) {
		if want := payload + strconv.Itoa(i); string(r.Value) != want {
			t.Fatalf("record %d is out of order: %s", i, r.Value[len(payload):])
		}
	}
}

// More in flight than the window: an MQTT 3 device knows no Receive Maximum
// and must only be slowed down.
func TestBeyondTheWindow(t *testing.T) {
	kafka := cluster(t)
	release := hold(t, kafka)
	c, addr, _ := start(t, kafka.ListenAddrs())
	d := connect(t, addr, "d", false)
	var all []byte
	for i := range 3 * window {
		all = append(all, d.publication("alarm/1", "x", 1, uint16(i+1))...)
	}
	if _, err := d.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the window is full", func() bool { return c.kafka.BufferedProduceRecords() >= window })
	if got := c.kafka.BufferedProduceRecords(); got > window+2 { // one being answered, one being sent
		t.Errorf("%d records wait, want at most %d", got, window+2)
	}
	release()
	for i := range 3 * window {
		d.wantAck(pubackType, uint16(i+1))
	}
}

func TestBrokerAwayAndBack(t *testing.T) {
	dir := t.TempDir()
	kafka := cluster(t, kfake.DataDir(dir))
	addrs := kafka.ListenAddrs()
	c, addr, _ := start(t, addrs)
	d := connect(t, addr, "d", false)
	d.publish("alarm/1", "before", 1, 1)
	d.wantAck(pubackType, 1)
	kafka.Close()
	d.publish("alarm/1", "during", 1, 2)
	d.wantSilence(500 * time.Millisecond)
	_, port, _ := net.SplitHostPort(addrs[0])
	n, _ := strconv.Atoi(port)
	kafka = cluster(t, kfake.DataDir(dir), kfake.Ports(n))
	d.wantAck(pubackType, 2)
	if rs := records(t, kafka.ListenAddrs(), "alarms", 2); string(rs[1].Value) != "during" {
		t.Errorf("second record = %s, want during", rs[1].Value)
	}
	if rep := c.Status(); !rep.OK {
		t.Errorf("after the outage: %+v, want OK", rep)
	}
}

func TestUnstoredIsNeverAcknowledged(t *testing.T) {
	soon := func(c *Config) { c.AckTimeout = 300 * time.Millisecond }
	t.Run("no answer", func(t *testing.T) {
		kafka := cluster(t)
		release := hold(t, kafka)
		defer release()
		c, addr, _ := start(t, kafka.ListenAddrs(), soon)
		d := connect(t, addr, "d", false)
		d.publish("alarm/1", "x", 1, 1)
		if got := d.wantClosed(); len(got) > 0 {
			t.Errorf("got packets % x before the end, want none", got)
		}
		if got := counter(t, c, "wayside_mqtt_unacknowledged_disconnects_total"); got != 1 {
			t.Errorf("%v disconnects counted, want 1", got)
		}
	})
	t.Run("refused for now", func(t *testing.T) {
		kafka := cluster(t)
		kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed})
		c, addr, _ := start(t, kafka.ListenAddrs())
		d := connect(t, addr, "d", true)
		d.publish("alarm/1", "x", 1, 1)
		if got := d.wantClosed(); !bytes.Equal(got, []byte{disconnectType}) {
			t.Errorf("got packets % x before the end, want DISCONNECT", got)
		}
		if rep := c.Status(); rep.OK {
			t.Errorf("Status = %+v, want not OK", rep)
		}
		d = connect(t, addr, "d", true)
		d.publish("alarm/1", "x", 1, 1)
		d.wantAck(pubackType, 1)
		if rep := c.Status(); !rep.OK {
			t.Errorf("Status = %+v, want OK again", rep)
		}
	})
	t.Run("refused for good", func(t *testing.T) {
		kafka := cluster(t)
		kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge})
		_, addr, _ := start(t, kafka.ListenAddrs())
		d := connect(t, addr, "d", true)
		d.publish("alarm/1", "x", 1, 1)
		if got := d.wantAck(pubackType, 1); got != 0x83 {
			t.Errorf("PUBACK reason = %#x, want 0x83", got)
		}
	})
}

func TestLocalSubscribers(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	got := make(chan string, 10)
	subscribe := func(id string) {
		cl := paho.NewClient(paho.ClientConfig{Conn: dial(t, addr), OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				got <- fmt.Sprintf("%s %s %d", p.Packet.Topic, p.Packet.Payload, p.Packet.QoS)
				return true, nil
			},
		}})
		if _, err := cl.Connect(t.Context(), &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "alarm/+", QoS: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(text string) {
		t.Helper()
		select {
		case g := <-got:
			if g != text {
				t.Errorf("subscriber got %q, want %q", g, text)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("subscriber got nothing, want %q", text)
		}
	}
	subscribe("s1")
	d := connect(t, addr, "d", false)
	d.publish("alarm/1", "zero", 0, 0)
	want("alarm/1 zero 0")
	d.publish("alarm/1", "one", 1, 1)
	d.wantAck(pubackType, 1)
	want("alarm/1 one 1")
	if _, err := d.conn.Write(frame(publishType|1<<1|1, append(append(text("alarm/2"), 0, 9), "kept"...))); err != nil { // retained
		t.Fatal(err)
	}
	d.wantAck(pubackType, 9)
	want("alarm/2 kept 1")
	subscribe("s2")
	want("alarm/2 kept 1")
}

func TestGarbageEndsItsOwnConnection(t *testing.T) {
	kafka := cluster(t)
	c, addr, _ := start(t, kafka.ListenAddrs())
	d := connect(t, addr, "good", false)
	huge := binary.AppendUvarint([]byte{publishType}, maxPacket+1)
	for name, junk := range map[string][]byte{
		"text": []byte("GET / HTTP/1.1\r\n\r\n"), "zeros": make([]byte, 64), "ones": bytes.Repeat([]byte{0xFF}, 64), "too large": huge,
	} {
		conn := dial(t, addr)
		if _, err := conn.Write(junk); err != nil {
			t.Fatal(err)
		}
		(&device{t: t, conn: conn}).closedAfter(name)
		bad := connect(t, addr, "bad", false)
		if _, err := bad.conn.Write(junk); err != nil {
			t.Fatal(err)
		}
		bad.wantClosed()
	}
	d.publish("alarm/1", "x", 1, 1)
	d.wantAck(pubackType, 1)
	eventually(t, "only the good device is left", func() bool { return c.connected() == 1 })
	if err := c.Healthy(); err != nil {
		t.Errorf("Healthy = %v, want nil", err)
	}
}

func (d *device) closedAfter(what string) {
	d.t.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := d.conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		d.t.Errorf("%s: read = %v, want a closed connection", what, err)
	}
}

func TestStopSaysGoodbyeAndKeepsQoS0(t *testing.T) {
	kafka := cluster(t)
	c, addr, stop := start(t, kafka.ListenAddrs())
	silent := dial(t, addr) // never says who it is
	d := connect(t, addr, "d", true)
	d.publish("plant/1/temp", "last", 0, 0)
	eventually(t, "it is seen", func() bool {
		return c.kafka.BufferedProduceRecords() > 0 || c.routes[1].records.Load() > 0
	})
	stop()
	if got := d.wantClosed(); !bytes.Equal(got, []byte{disconnectType}) {
		t.Errorf("got packets % x at the end, want DISCONNECT", got)
	}
	(&device{t: t, conn: silent}).closedAfter("stop")
	records(t, kafka.ListenAddrs(), "sensors", 1)
	if c.Healthy() == nil {
		t.Error("Healthy after the end, want an error")
	}
}

func TestMosquitto(t *testing.T) {
	pub, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		t.Skip("mosquitto_pub is not installed (package mosquitto-clients)")
	}
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	host, port, _ := net.SplitHostPort(addr)
	want := map[string]bool{}
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			text := version + " " + qos
			want[text] = true
			out, err := exec.CommandContext(t.Context(), pub, "-h", host, "-p", port, "-V", version, "-q", qos, "-t", "alarm/m", "-m", text).CombinedOutput()
			if err != nil {
				t.Fatalf("mosquitto_pub %s: %v\n%s", text, err, out)
			}
		}
	}
	got := map[string]bool{}
	for _, r := range records(t, kafka.ListenAddrs(), "alarms", len(want)) {
		got[string(r.Value)] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
