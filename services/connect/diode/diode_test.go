package diode_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/connect/diode"
	"github.com/waysideos/wayside/services/connect/diode/wire"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

const lineFormat = "record %06d of the plant's side, as long as a reading of a device is"

// relay is the fibre: it drops datagrams by chance, all of them while cut.
type relay struct {
	in      net.PacketConn
	out     net.Conn
	loss    float64
	cut     atomic.Bool
	dropped atomic.Int64
}

func newRelay(t *testing.T, to string, loss float64) *relay {
	t.Helper()
	in, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{in: in, out: out, loss: loss}
	done := make(chan struct{})
	go func() { defer close(done); r.run() }()
	t.Cleanup(func() { in.Close(); out.Close(); <-done })
	return r
}

func (r *relay) run() {
	rng := rand.New(rand.NewPCG(7, 7))
	buf := make([]byte, 64<<10)
	for {
		n, _, err := r.in.ReadFrom(buf)
		if err != nil {
			return
		}
		if r.cut.Load() || rng.Float64() < r.loss {
			r.dropped.Add(1)
			continue
		}
		_, _ = r.out.Write(buf[:n]) // nobody may be there: a diode does not know either
	}
}

// side is one of the two boxes.
type side struct {
	t       *testing.T
	broker  *connecttest.Broker
	disk    vfs.FS
	secrets string
	keyless bool
	make    func() connect.Instance
	running *connecttest.Running
}

func (s *side) start() {
	s.running = connecttest.Start(s.t, s.broker.Addr, s.disk, s.secrets, s.make())
}

func newSides(t *testing.T, address, sendTo string, receiverKey string) (from, to *side) {
	t.Helper()
	secrets := t.TempDir()
	for name, key := range map[string]string{"plant.key": "the same on both sides\n", "other.key": "another"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parity := 40
	send := site.DiodeSend{Name: "out", Address: sendTo, Topics: []string{"sensors"}, Rate: "2MB/s", Redundancy: &parity, Key: "plant.key"}
	receive := site.DiodeReceive{Name: "in", Listen: address, Key: receiverKey, Records: site.Records{Topic: "plant.{topic}"}}
	from = &side{t: t, broker: connecttest.NewBroker(t), disk: vfs.NewCrashable(2), secrets: secrets, make: func() connect.Instance {
		if from.keyless {
			send.Key = ""
		}
		c, err := diode.NewSender(send)
		if err != nil {
			t.Fatal(err)
		}
		return connect.Instance{Connector: c, Name: "out", Protocol: "diode_send", Records: site.DefaultRecords("out")}
	}}
	to = &side{t: t, broker: connecttest.NewBroker(t), disk: vfs.NewCrashable(3), secrets: secrets, make: func() connect.Instance {
		c, err := diode.NewReceiver(receive)
		if err != nil {
			t.Fatal(err)
		}
		records := site.DefaultRecords("in")
		records.Topic, records.Key, records.Format = "plant.{topic}", "", site.FormatRaw
		return connect.Instance{Connector: c, Name: "in", Protocol: "diode_receive", Records: records}
	}}
	return from, to
}

func write(s *side, from, to int) {
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		rs = append(rs, &kgo.Record{Topic: "sensors", Value: fmt.Appendf(nil, lineFormat, i), Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}}})
	}
	s.broker.Write(rs...)
}

// Over a fibre that loses a tenth of all datagrams everything arrives, in
// order and once, though both sides are stopped and started in between.
func TestEverythingArrivesOnce(t *testing.T) {
	address := udpAddress(t)
	fibre := newRelay(t, address, 0.1)
	from, to := newSides(t, address, fibre.in.LocalAddr().String(), "plant.key")
	to.start()
	from.start()
	write(from, 0, 2000)
	to.broker.Read("plant.sensors", 2000)
	from.running.Stop()
	from.start()
	write(from, 2000, 3000)
	to.broker.Read("plant.sensors", 3000)
	to.running.Stop()
	to.start()
	write(from, 3000, 4000)
	for i, r := range to.broker.Read("plant.sensors", 4000) {
		if want := fmt.Sprintf(lineFormat, i); string(r.Value) != want || string(r.Headers[0].Value) != fmt.Sprint(i) {
			t.Fatalf("record %d is %q with headers %v, want %q", i, r.Value, r.Headers, want)
		}
	}
	if fibre.dropped.Load() == 0 {
		t.Error("the fibre lost nothing")
	}
	if extra := to.broker.ReadFor("plant.sensors", 4001, time.Second); len(extra) > 4000 {
		t.Errorf("%d records came, 4000 were sent", len(extra))
	}
}

// What a cut takes is reported by its offsets, and the rest goes on.
func TestACutIsReported(t *testing.T) {
	address := udpAddress(t)
	fibre := newRelay(t, address, 0)
	from, to := newSides(t, address, fibre.in.LocalAddr().String(), "plant.key")
	to.start()
	from.start()
	write(from, 0, 100)
	to.broker.Read("plant.sensors", 100)
	fibre.cut.Store(true)
	before := fibre.dropped.Load()
	write(from, 100, 150)
	connecttest.Until(t, "the cut to take records and a position", func() bool { return fibre.dropped.Load() >= before+5 })
	fibre.cut.Store(false)
	letter := to.broker.Read("dead-letters.in", 1)[0] // by the sender's position, with no further record
	if reason := reasonOf(letter); !strings.Contains(reason, "sensors, partition 0, offsets 100 to 149") {
		t.Errorf("dead letter says %q", reason)
	}
	write(from, 150, 160)
	if last := to.broker.Read("plant.sensors", 110)[100]; string(last.Value) != fmt.Sprintf(lineFormat, 150) {
		t.Errorf("after the cut comes %q", last.Value)
	}
}

func TestAnotherKey(t *testing.T) {
	address := udpAddress(t)
	from, to := newSides(t, address, address, "other.key")
	to.start()
	from.start()
	write(from, 0, 10)
	if reason := reasonOf(to.broker.Read("dead-letters.in", 1)[0]); !strings.Contains(reason, "not sealed with this key") {
		t.Errorf("dead letter says %q", reason)
	}
	if got := to.broker.ReadFor("plant.sensors", 1, 500*time.Millisecond); len(got) > 0 {
		t.Errorf("%d records were taken", len(got))
	}
	if text := to.running.Log.String() + from.running.Log.String(); strings.Contains(text, "the same on both sides") {
		t.Error("the key is in the log")
	}
}

// A link without a key takes what anybody sends; it costs neither memory nor
// the link.
func TestDatagramsOfOthers(t *testing.T) {
	address := udpAddress(t)
	from, to := newSides(t, address, address, "")
	from.keyless = true
	to.start()
	from.start()
	write(from, 0, 10)
	to.broker.Read("plant.sensors", 10)
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rng := rand.New(rand.NewPCG(8, 8))
	for i := range 20000 {
		b := make([]byte, rng.IntN(200))
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		if i%2 == 0 {
			copy(b, "WD\x01\x00")
		}
		_, _ = conn.Write(b) // some get lost
	}
	other := &wire.Packer{Stream: 1, Send: func(b []byte) error { _, err := conn.Write(b); return err }} // of a run that is over
	for i := range 3000 {
		if err := other.Position(fmt.Sprint("other-", i), 0, 7); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	// They would have taken the room of the right ones in the kernel.
	told := func() string { // once a second
		detail := to.running.State("in").Detail
		return detail[strings.LastIndex(detail, ";")+1:] // so many of no use
	}
	for last := ""; last != told(); time.Sleep(1500 * time.Millisecond) {
		last = told()
	}
	write(from, 10, 500)
	for i, r := range to.broker.Read("plant.sensors", 500) {
		if want := fmt.Sprintf(lineFormat, i); string(r.Value) != want {
			t.Fatalf("record %d is %q, want %q", i, r.Value, want)
		}
	}
	if dead := to.running.State("in").Dead; dead == 0 || dead > 100 {
		t.Errorf("%d dead letters; want one a second at most", dead)
	}
}

// The broker may be away: the receiver spools.
func TestTheReceiversBrokerIsAway(t *testing.T) {
	address := udpAddress(t)
	from, to := newSides(t, address, address, "plant.key")
	to.start()
	from.start()
	write(from, 0, 10)
	to.broker.Read("plant.sensors", 10)
	to.broker.Stop()
	write(from, 10, 500)
	connecttest.Until(t, "records to be spooled", func() bool { return to.running.State("in").Waiting >= 400 })
	to.broker.Start()
	for i, r := range to.broker.Read("plant.sensors", 500) {
		if want := fmt.Sprintf(lineFormat, i); string(r.Value) != want {
			t.Fatalf("record %d is %q, want %q", i, r.Value, want)
		}
	}
}

func udpAddress(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

func reasonOf(r *kgo.Record) string {
	var all []string
	for _, h := range r.Headers {
		all = append(all, h.Key+"="+string(h.Value))
	}
	return strings.Join(all, " ")
}
