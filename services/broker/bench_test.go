package broker_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// BenchmarkProduce sends 1 KiB records, durable before they are acknowledged,
// by franz-go as it comes (idempotent, uncompressed). Client and broker share
// the machine, so this measures both.
func BenchmarkProduce(b *testing.B) {
	for _, partitions := range []int{1, 6} {
		b.Run(fmt.Sprint("partitions=", partitions), func(b *testing.B) {
			_, cl := benchBroker(b, partitions)
			rec := make([]byte, 1024)
			b.SetBytes(int64(len(rec)))
			b.ResetTimer()
			var wg sync.WaitGroup
			wg.Add(b.N)
			for range b.N {
				cl.Produce(b.Context(), &kgo.Record{Topic: "t", Value: rec}, func(_ *kgo.Record, err error) {
					if err != nil {
						b.Error(err)
					}
					wg.Done()
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkAck sends one record at a time: how long a durable acknowledgement
// takes. BenchmarkSync beside it is the disk's own.
func BenchmarkAck(b *testing.B) {
	_, cl := benchBroker(b, 1)
	rec := make([]byte, 1024)
	report(b, func() {
		if err := cl.ProduceSync(b.Context(), &kgo.Record{Topic: "t", Value: rec}).FirstErr(); err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkSync(b *testing.B) {
	f, err := vfs.OS(b.TempDir()).Create("f")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rec, at := make([]byte, 1100), int64(0)
	report(b, func() {
		f.WriteAt(rec, at)
		at += int64(len(rec))
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	})
}

// report runs op b.N times and reports the median and the 99th percentile.
func report(b *testing.B, op func()) {
	took := make([]time.Duration, 0, b.N)
	op()
	b.ResetTimer()
	for range b.N {
		begin := time.Now()
		op()
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func benchBroker(b *testing.B, partitions int) (*running, *kgo.Client) {
	r := start(b, vfs.OS(b.TempDir()), func(c *broker.Config) {
		c.Topics = []site.Topic{{Name: "t", Partitions: partitions}}
	})
	return r, client(b, r, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(20000))
}
