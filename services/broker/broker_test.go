package broker_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/vfs"
)

// running is a broker under test.
type running struct {
	*broker.Broker
	addr string
	stop func() error // idempotent
}

// start runs a broker on fsys until the test ends.
func start(t testing.TB, fsys vfs.FS, edit ...func(*broker.Config)) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := broker.Config{
		FS: fsys, Listeners: []net.Listener{ln}, AutoCreate: true,
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Limits: broker.Limits{RebalanceDelay: 50 * time.Millisecond},
	}
	for _, e := range edit {
		e(&cfg)
	}
	b, err := broker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var runErr error
	go func() {
		defer close(ended)
		runErr = b.Run(ctx)
	}()
	stop := func() error {
		cancel()
		<-ended
		return runErr
	}
	t.Cleanup(func() { stop() })
	select {
	case <-b.Ready():
	case <-ended:
		t.Fatalf("broker did not start: %v", runErr)
	}
	return &running{b, ln.Addr().String(), stop}
}

func client(t testing.TB, b *running, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	base := []kgo.Opt{kgo.SeedBrokers(b.addr), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0)}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// within is a context with the longest time any step of a test may take.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func produce(t *testing.T, cl *kgo.Client, recs ...*kgo.Record) {
	t.Helper()
	if err := cl.ProduceSync(within(t), recs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// consume returns the next n records.
func consume(t *testing.T, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := within(t)
	var out []*kgo.Record
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records of %d came in time", len(out), n)
		}
		for _, e := range fs.Errors() {
			t.Fatalf("fetch %s[%d]: %v", e.Topic, e.Partition, e.Err)
		}
		out = append(out, fs.Records()...)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
