// Package connecttest is what every connector must pass: a suite of what
// devices, brokers and power do to it, and the box's broker in the test's own
// process.
package connecttest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// wait is how long anything may take before the test gives up.
const wait = 30 * time.Second

// Broker is the box's broker, which can go away and come back. It keeps its
// address and, but for what a power cut takes, its records.
type Broker struct {
	Addr   string
	Topics []site.Topic // made at start

	t    testing.TB
	disk *vfs.Crashable
	stop func()
}

// NewBroker starts a broker that ends with the test.
func NewBroker(t testing.TB, topics ...site.Topic) *Broker {
	t.Helper()
	b := &Broker{t: t, Topics: topics, disk: vfs.NewCrashable(1), Addr: FreeAddress(t)}
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

// FreeAddress is one on this machine where nobody listens, nor will by chance:
// it is below the ports that outgoing connections get, one of which would
// else be in the way of a server that comes back.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.N(20000)))
		if err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Start has the broker serve again.
func (b *Broker) Start() {
	b.t.Helper()
	ln, err := net.Listen("tcp", b.Addr)
	if err != nil {
		b.t.Fatal(err)
	}
	srv, err := broker.New(broker.Config{FS: b.disk, Listeners: []net.Listener{ln}, Topics: b.Topics, AutoCreate: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-ended:
		b.t.Fatalf("broker ended: %v", err)
	}
	b.stop = func() { cancel(); <-ended }
}

// Stop ends it; it may be stopped already.
func (b *Broker) Stop() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

// CutPower ends it and leaves on its disk what a power cut would.
func (b *Broker) CutPower() {
	disk := b.disk.Crash()
	b.Stop()
	b.disk = disk
}

// Read returns the first n records of a topic, in the order of each
// partition; it waits for them.
func (b *Broker) Read(topic string, n int) []*kgo.Record {
	b.t.Helper()
	got := b.ReadFor(topic, n, wait)
	if len(got) < n {
		b.t.Fatalf("topic %s: got %d records in %s, want %d", topic, len(got), wait, n)
	}
	return got
}

// ReadFor is Read that gives up after a time.
func (b *Broker) ReadFor(topic string, n int, most time.Duration) []*kgo.Record {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond), kgo.AllowAutoTopicCreation())
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	var got []*kgo.Record
	for len(got) < n && ctx.Err() == nil {
		got = append(got, cl.PollFetches(ctx).Records()...)
	}
	return got
}

// Write puts records into the broker, such as commands.
func (b *Broker) Write(rs ...*kgo.Record) {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.AllowAutoTopicCreation())
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// Until waits for a condition.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for: %s", wait, what)
		}
	}
}
