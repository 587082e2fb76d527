package replicator

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/replicator/batch"
	"github.com/waysideos/wayside/services/site"
)

// stored are the batches of partition 0, without ends of transactions.
func stored(t *testing.T, addrs []string, topic string) (all []batch.Batch) {
	t.Helper()
	cl := client(t, addrs)
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, mt := range meta.Topics {
		if mt.Topic != nil && *mt.Topic == topic {
			b := &batches{cl: cl, size: 16 << 20, at: map[string]map[int32]int64{}, ids: map[string]kadm.TopicID{}, open: kgo.DefaultDecompressor()}
			b.add(&partition{key: key{topic: topic}, id: mt.TopicID})
			b.poll(t.Context()).EachPartition(func(p kgo.FetchTopicPartition) {
				for _, r := range p.Records {
					if r.Value != nil {
						all = append(all, r.Value)
					}
				}
			})
		}
	}
	return all
}

func keep(src []string, dst ...string) Config {
	cfg := config(src, dst...)
	cfg.Links[0].Compression, cfg.Links[0].Guarantee = site.KeepBatches, site.ExactlyOnce
	return cfg
}

// Batches arrive byte for byte as the producers made them, but for who
// produced them; those of a transaction that was given up do not.
func TestBatchesAreKept(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	n := 0
	put := func(cl *kgo.Client, count int) {
		for range count {
			cl.Produce(t.Context(), &kgo.Record{Topic: "sensors", Key: []byte("k"), Value: []byte(strconv.Itoa(n)), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n))}, nil)
			n++
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		put(client(t, src.ListenAddrs(), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(50*time.Millisecond)), 100)
	}
	txn := client(t, src.ListenAddrs(), kgo.TransactionalID("x"))
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if put(txn, 10); end == kgo.TryAbort {
			n -= 10
		}
		if err := txn.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	start(t, keep(src.ListenAddrs(), dst.ListenAddrs()...))
	check(t, read(t, dst.ListenAddrs(), "sensors", n), 1, n)
	before, after := stored(t, src.ListenAddrs(), "sensors"), stored(t, dst.ListenAddrs(), "sensors")
	if len(before) < 4 || len(before) != len(after) {
		t.Fatalf("%d batches became %d", len(before), len(after))
	}
	for i := range before {
		const records = 61
		if !bytes.Equal(before[i][records:], after[i][records:]) || before[i].MaxTimestamp() != after[i].MaxTimestamp() {
			t.Errorf("batch %d is not what it was", i)
		}
	}
}

// A rewind into the middle of a batch carries nothing before it; a batch that
// is refused is carried as records.
func TestBatchesAreOpenedWhereNeeded(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	var rs []*kgo.Record
	for n := range 20 {
		rs = append(rs, &kgo.Record{Topic: "sensors", Value: []byte(strconv.Itoa(n))})
	}
	cl := client(t, src.ListenAddrs(), kgo.ProducerLinger(50*time.Millisecond))
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r, _ := start(t, keep(src.ListenAddrs(), dst.ListenAddrs()...))
	values(t, dst.ListenAddrs(), "sensors", 20)
	var s LinkState
	eventually(t, "the position is set", func() bool {
		return ask(t, r, "POST", "/links/hq/rewind?topic=sensors&to=15", &s) == 200
	})
	got := texts(values(t, dst.ListenAddrs(), "sensors", 25))
	if want := []string{"15", "16", "17", "18", "19"}; len(got) != 25 || fmt.Sprint(got[20:]) != fmt.Sprint(want) {
		t.Errorf("after a rewind: %v, want %v behind the first 20", got, want)
	}
	dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Partitions: []int32{0}, Count: 1})
	write(t, cl, "sensors", 1, 20, 40)
	got = texts(values(t, dst.ListenAddrs(), "sensors", 45))
	if len(got) != 45 || got[25] != "20" || got[44] != "39" {
		t.Errorf("after a refusal: %d records, %v", len(got), got[25:])
	}
}

// TestSoakOfBatches is TestSoak where batches are kept.
func TestSoakOfBatches(t *testing.T) {
	t.Parallel()
	soak(t, exactlyOnce, keep, rand.Uint64())
}
