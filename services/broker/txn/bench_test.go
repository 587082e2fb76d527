package txn_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/txn"
	"github.com/waysideos/wayside/services/vfs"
)

// BenchmarkTransaction says what the coordinator's part of a transaction
// takes on a real disk: the durable addition of partitions, the decision and
// the completion. Markers cost nothing here.
func BenchmarkTransaction(b *testing.B) {
	for _, parts := range []int{1, 10} {
		for name, step := range map[string]int{"one request": parts, "one request each": 1} {
			b.Run(fmt.Sprintf("%d partitions, %s", parts, name), func(b *testing.B) {
				st, err := meta.Open(vfs.OS(b.TempDir()), "meta")
				if err != nil {
					b.Fatal(err)
				}
				defer st.Close()
				logs := &fakeLogs{markers: map[int32][]string{}, fails: map[int32]error{}}
				c := txn.Open(txn.Config{Meta: st, Logs: logs, Log: slog.New(slog.DiscardHandler)})
				defer c.Close()
				p := txn.Producer{Txn: "x"}
				if p.ID, p.Epoch, err = c.Init(b.Context(), txn.Init{Txn: "x", Timeout: time.Minute, ID: -1, Epoch: -1}); err != nil {
					b.Fatal(err)
				}
				refs := make([]meta.TxnPartition, parts)
				for i := range refs {
					refs[i] = meta.TxnPartition{Topic: topicID, Partition: int32(i)}
				}
				var adding, ending time.Duration
				for b.Loop() {
					begin := time.Now()
					for i := 0; i < parts; i += step {
						leave, err := c.Append(b.Context(), p, refs[i:i+step], true)
						if err != nil {
							b.Fatal(err)
						}
						leave()
					}
					adding += time.Since(begin)
					begin = time.Now()
					if p.ID, p.Epoch, err = c.End(b.Context(), txn.End{Producer: p, Commit: true, Bump: true}); err != nil {
						b.Fatal(err)
					}
					ending += time.Since(begin)
				}
				b.ReportMetric(float64(adding.Microseconds())/float64(b.N), "µs/adding")
				b.ReportMetric(float64(ending.Microseconds())/float64(b.N), "µs/end")
			})
		}
	}
}

// BenchmarkVerify is what a batch of a transaction costs once its partition
// was added.
func BenchmarkVerify(b *testing.B) {
	st, err := meta.Open(vfs.NewCrashable(1), "meta")
	if err != nil {
		b.Fatal(err)
	}
	c := txn.Open(txn.Config{Meta: st, Logs: &fakeLogs{markers: map[int32][]string{}}, Log: slog.New(slog.DiscardHandler)})
	defer c.Close()
	p := txn.Producer{Txn: "x"}
	p.ID, p.Epoch, _ = c.Init(b.Context(), txn.Init{Txn: "x", Timeout: time.Minute, ID: -1, Epoch: -1})
	refs := []meta.TxnPartition{{Topic: topicID}}
	b.ReportAllocs()
	for b.Loop() {
		leave, err := c.Append(b.Context(), p, refs, true)
		if err != nil {
			b.Fatal(err)
		}
		leave()
	}
}
