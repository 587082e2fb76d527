package connect_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
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

// A batch of some kilobytes that would be 48 MB when it is unpacked is
// passed over, told and counted; a sink goes on behind it.
func TestSinksAreNotFlooded(t *testing.T) {
	for name, read := range map[string]func(*connect.Box, context.Context, func(context.Context, []*kgo.Record) error) error{
		"Consume": func(b *connect.Box, ctx context.Context, take func(context.Context, []*kgo.Record) error) error {
			return b.Consume(ctx, []string{"in"}, take)
		},
		"Follow": func(b *connect.Box, ctx context.Context, take func(context.Context, []*kgo.Record) error) error {
			return b.Follow(ctx, []string{"in"}, func(string, int32) (int64, bool) { return 0, false }, take)
		},
	} {
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
