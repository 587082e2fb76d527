package diode_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/connect/diode"
	"github.com/waysideos/wayside/services/connect/diode/wire"
	"github.com/waysideos/wayside/services/site"
)

// listener is a receiver without a box.
type listener struct {
	t       *testing.T
	address string
	cl      *kgo.Client
	stop    func()

	mu  sync.Mutex
	got []int64
}

// Join makes the topic: it is there before the sender, as on a box.
func (l *listener) Join(b *connecttest.Broker) {
	var err error
	if l.cl, err = kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50*time.Millisecond)); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.cl.Close)
	if err := l.Emit(-1); err != nil { // which is no value of the suite
		l.t.Fatal(err)
	}
}

// Arrived implements connecttest.Far.
func (l *listener) Arrived(n int, most time.Duration) []int64 {
	for end := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		got := slices.Clone(l.got)
		l.mu.Unlock()
		if len(got) >= n || time.Now().After(end) {
			return got
		}
	}
}

func (l *listener) Start() {
	if l.stop != nil {
		return
	}
	pc, err := net.ListenPacket("udp", l.address)
	if err != nil {
		l.t.Fatal(err)
	}
	_ = pc.(*net.UDPConn).SetReadBuffer(4 << 20)
	done := make(chan struct{})
	go func() { defer close(done); l.run(pc) }()
	l.stop = func() { pc.Close(); <-done; l.stop = nil }
}

func (l *listener) Stop() {
	if l.stop != nil {
		l.stop()
	}
}

func (l *listener) run(pc net.PacketConn) {
	u := &wire.Unpacker{Key: []byte(suiteKey), Patience: time.Second, Position: func(string, int32, int64) {}}
	u.Record = func(r wire.Record) {
		var v struct{ Value int64 }
		if json.Unmarshal(r.Value, &v) == nil && v.Value >= 0 {
			l.mu.Lock()
			l.got = append(l.got, v.Value)
			l.mu.Unlock()
		}
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		_ = u.Datagram(buf[:n], time.Now())
		u.Advance(time.Now())
	}
}

// Emit stores a value in the topic that the sender carries.
func (l *listener) Emit(v int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	return l.cl.ProduceSync(ctx, &kgo.Record{Topic: "out", Value: fmt.Appendf(nil, `{"value":%d}`, v)}).FirstErr()
}

func (l *listener) Do(f connecttest.Fault) bool { return f == connecttest.Well }

func TestSenderSuite(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "diode_send", Acknowledged: true, Senders: 100,
		New: func(t *testing.T, secrets string) (string, connecttest.Device) {
			if err := os.WriteFile(filepath.Join(secrets, "diode.key"), []byte(suiteKey), 0o600); err != nil {
				t.Fatal(err)
			}
			l := &listener{t: t, address: udpAddress(t)}
			return fmt.Sprintf("name: dev\naddress: %s\ntopics: [out]\nkey: diode.key\nrate: 5MB/s\n", l.address), l
		},
		Make:   func(p *site.Profile) (connect.Connector, error) { return diode.NewSender(p.Connect.DiodeSend[0]) },
		Change: "redundancy: 60",
		Cannot: map[string]string{
			"device lost midway": "nobody hears that the far end is away, and what it misses is lost: TestACutIsReported",
			"malformed answer":   "nothing comes back over the link",
			"slow device":        "nobody is waited for",
			"times and quality":  "records are carried as they are",
		},
	})
}
