package connect_test

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

// writeOne gives a batch of one record to a broker.
func writeOne(t *testing.T, addr, topic string, value []byte) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		kgo.ProducerBatchMaxBytes(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// reads are the ways in which sinks read topic "in".
var reads = map[string]func(*connect.Box, context.Context, func(context.Context, []*kgo.Record) error) error{
	"Consume": func(b *connect.Box, ctx context.Context, take func(context.Context, []*kgo.Record) error) error {
		return b.Consume(ctx, []string{"in"}, take)
	},
	"Follow": func(b *connect.Box, ctx context.Context, take func(context.Context, []*kgo.Record) error) error {
		return b.Follow(ctx, []string{"in"}, func(string, int32) (int64, bool) { return 0, false }, take)
	},
}

// A batch of some kilobytes that would be 48 MB when it is unpacked is
// passed over, told and counted; a sink goes on behind it.
func TestSinksAreNotFlooded(t *testing.T) {
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			b := connecttest.NewBroker(t)
			writeOne(t, b.Addr, "in", []byte("before"))
			writeOne(t, b.Addr, "in", make([]byte, 48<<20))
			writeOne(t, b.Addr, "in", []byte("behind"))
			got := make(chan string, 10)
			run := connecttest.Start(t, b.Addr, nil, "", instance(func(ctx context.Context, box *connect.Box) error {
				return read(box, ctx, func(_ context.Context, rs []*kgo.Record) error {
					for _, r := range rs {
						got <- string(r.Value[:min(len(r.Value), 10)])
					}
					return nil
				})
			}))
			connecttest.Until(t, "two records", func() bool { return len(got) >= 2 })
			if diff := cmp.Diff([]string{"before", "behind"}, []string{<-got, <-got}); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if n := run.State("dev").Dropped; n != 1 {
				t.Errorf("%d records are counted as lost, want 1", n)
			}
			if r := b.Read("dead-letters.dev", 1)[0]; header(r, "source") != "in/0/1" {
				t.Errorf("dead letter of %q, want that of in/0/1", header(r, "source"))
			}
		})
	}
}

// Many batches of a kilobyte that are 15 MB when they are unpacked fit in one
// fetch of each sink: what all of them hold at once is bounded, and all arrives.
func TestSinksShareRoom(t *testing.T) {
	const batches, most = 12, 100 << 20
	b := connecttest.NewBroker(t)
	zeros := make([]byte, 15<<20)
	for range batches {
		writeOne(t, b.Addr, "in", zeros)
	}
	zeros = nil
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	live() // what pools hold goes with the second collection
	live()
	base := live()
	var mu sync.Mutex
	var peak int64
	got := map[string]int{}
	var sinks []connect.Instance
	for name, read := range reads {
		sinks = append(sinks, instance(func(ctx context.Context, box *connect.Box) error {
			return read(box, ctx, func(_ context.Context, rs []*kgo.Record) error {
				mu.Lock()
				defer mu.Unlock()
				got[name] += len(rs)
				if len(rs) > 0 {
					peak = max(peak, live()-base)
				}
				runtime.KeepAlive(rs)
				return nil
			})
		}, func(i *connect.Instance) { i.Name, i.Records = name, site.DefaultRecords(name) }))
	}
	connecttest.Start(t, b.Addr, nil, "", sinks...)
	connecttest.Until(t, "all records", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["Consume"] >= batches && got["Follow"] >= batches
	})
	if peak > most {
		t.Errorf("%d MB were in memory at once, want at most %d", peak>>20, most>>20)
	}
	t.Logf("at most %d MB were in memory at once", peak>>20)
}

// A sink that is stuck with what it has read does not keep others from reading.
func TestAStuckSinkHoldsUpNoOther(t *testing.T) {
	b := connecttest.NewBroker(t)
	large := make([]byte, 15<<20)
	for range 5 {
		writeOne(t, b.Addr, "in", large)
	}
	for i := range 100 {
		writeOne(t, b.Addr, "small", bytes.Repeat([]byte{byte(i)}, 100_000))
	}
	stuck := make(chan struct{}, 8)
	var sinks []connect.Instance
	for _, name := range []string{"s1", "s2", "s3"} {
		sinks = append(sinks, instance(func(ctx context.Context, box *connect.Box) error {
			return box.Consume(ctx, []string{"in"}, func(ctx context.Context, rs []*kgo.Record) error {
				stuck <- struct{}{}
				<-ctx.Done()
				runtime.KeepAlive(rs)
				return ctx.Err()
			})
		}, func(i *connect.Instance) { i.Name, i.Records = name, site.DefaultRecords(name) }))
	}
	var read atomic.Int64
	start := make(chan struct{})
	sinks = append(sinks, instance(func(ctx context.Context, box *connect.Box) error {
		<-start
		return box.Consume(ctx, []string{"small"}, func(_ context.Context, rs []*kgo.Record) error {
			read.Add(int64(len(rs)))
			return nil
		})
	}))
	connecttest.Start(t, b.Addr, nil, "", sinks...)
	for range 3 {
		<-stuck
	}
	close(start)
	connecttest.Until(t, "the other sink has read all", func() bool { return read.Load() >= 100 })
}

// A hostile batch among commands holds up none.
func TestCommandsAreNotFlooded(t *testing.T) {
	b := connecttest.NewBroker(t)
	run := connecttest.Start(t, b.Addr, nil, "", instance(func(ctx context.Context, box *connect.Box) error {
		for {
			select {
			case c := <-box.Commands():
				c.Answer(nil)
			case <-ctx.Done():
				return nil
			}
		}
	}, func(i *connect.Instance) { i.Commands = &site.Commands{Topic: "cmd", Answers: "ans"} }))
	connecttest.Until(t, "the group is there", func() bool { return strings.Contains(run.Log.String(), "commands are read") })
	writeOne(t, b.Addr, "cmd", make([]byte, 48<<20))
	writeOne(t, b.Addr, "cmd", []byte(`{"id":"1"}`))
	b.Read("ans", 1)
	if r := b.Read("dead-letters.dev", 1)[0]; header(r, "source") != "cmd/0/0" {
		t.Errorf("dead letter of %q, want that of cmd/0/0", header(r, "source"))
	}
}
