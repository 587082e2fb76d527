package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// round is some seconds of load on topics of its own, after which all is
// compared with what clients were told.
type round struct {
	t    *testing.T
	addr string
	name string
	pace time.Duration // between a worker's records

	plain, idem  sent
	txns         map[string]bool // by number: acknowledged as committed, or as aborted; absent: not known
	committed    map[string]map[int32]int64
	seen         map[string]map[string]bool // by group
	made, gone   []string                   // topics
	mu           sync.Mutex
	acked, moved atomic.Int64
}

// sent is what one producer was told of its records.
type sent struct {
	mu    sync.Mutex
	acked map[string]bool
}

func (s *sent) promise(r *kgo.Record, err error) {
	if err == nil {
		s.mu.Lock()
		s.acked[string(r.Value)] = true
		s.mu.Unlock()
	}
}

func newRound(t *testing.T, addr, name string) *round {
	r := &round{
		t: t, addr: addr, name: name, pace: 2 * time.Millisecond,
		plain: sent{acked: map[string]bool{}}, idem: sent{acked: map[string]bool{}},
		txns: map[string]bool{}, committed: map[string]map[int32]int64{}, seen: map[string]map[string]bool{},
	}
	for _, topic := range []string{"plain", "idem", "txa", "txb"} {
		harness.CreateTopic(t, addr, r.topic(topic), 2)
	}
	return r
}

func (r *round) topic(s string) string { return r.name + "-" + s }

// run loads the broker until ctx ends, and a little longer: what was begun is
// brought to its end while the broker is well.
func (r *round) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { r.produce(ctx, "plain", &r.plain, kgo.DisableIdempotentWrite()) })
	wg.Go(func() { r.produce(ctx, "idem", &r.idem) })
	wg.Go(func() { r.transact(ctx) })
	for _, g := range []string{"classic", "consumer"} {
		wg.Go(func() { r.consume(ctx, g) })
	}
	wg.Go(func() { r.administer(ctx) })
	wg.Wait()
}

func (r *round) produce(ctx context.Context, topic string, s *sent, opts ...kgo.Opt) {
	cl := harness.Client(r.t, r.addr, append(opts, kgo.DefaultProduceTopic(r.topic(topic)), kgo.ProducerLinger(time.Millisecond),
		kgo.ProducerBatchCompression([]kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.Lz4Compression()}[rand.IntN(3)]))...)
	defer cl.Close()
	for i := 0; ctx.Err() == nil; i++ {
		cl.Produce(r.t.Context(), &kgo.Record{Value: []byte(strconv.Itoa(i))}, func(rec *kgo.Record, err error) {
			s.promise(rec, err)
			r.acked.Add(1)
		})
		time.Sleep(r.pace)
	}
	flush, stop := context.WithTimeout(r.t.Context(), time.Minute)
	defer stop()
	if err := cl.Flush(flush); err != nil {
		r.t.Errorf("%s: records are neither taken nor refused for a minute: %v", r.name, err)
	}
}

// transact writes some records to two topics and commits or aborts them.
func (r *round) transact(ctx context.Context) {
	client := func() *kgo.Client {
		return harness.Client(r.t, r.addr, kgo.TransactionalID(r.topic("x")), kgo.TransactionTimeout(10*time.Second), kgo.ProducerLinger(0))
	}
	cl := client()
	defer func() { cl.Close() }()
	again := func() {
		cl.Close()
		cl = client()
	}
	for i := 0; ctx.Err() == nil; i++ {
		if cl.BeginTransaction() != nil {
			again()
			continue
		}
		for j := range 4 {
			cl.Produce(r.t.Context(), &kgo.Record{Topic: r.topic([]string{"txa", "txb"}[j%2]), Value: fmt.Appendf(nil, "%d.%d", i, j)}, nil)
		}
		end := kgo.TransactionEndTry(rand.IntN(4) > 0)
		by, stop := context.WithTimeout(r.t.Context(), 30*time.Second)
		err := cl.Flush(by)
		if err == nil {
			err = cl.EndTransaction(by, end)
		}
		stop()
		if err != nil {
			again() // nobody knows how it ended
			continue
		}
		r.txns[strconv.Itoa(i)] = bool(end)
		r.moved.Add(1)
		time.Sleep(5 * r.pace)
	}
	// One more ends whatever was left open.
	again()
	for deadline := time.Now().Add(time.Minute); ; {
		by, stop := context.WithTimeout(r.t.Context(), 10*time.Second)
		err := cl.BeginTransaction()
		if err == nil {
			err = errors.Join(cl.ProduceSync(by, &kgo.Record{Topic: r.topic("txa"), Value: []byte("last.0")}, &kgo.Record{Topic: r.topic("txb"), Value: []byte("last.0")}).FirstErr(),
				cl.EndTransaction(by, kgo.TryAbort))
		}
		stop()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Errorf("%s: the last transaction: %v", r.name, err)
			return
		}
		again()
	}
}

// consume reads as a group whose members come and go.
func (r *round) consume(ctx context.Context, group string) {
	with := context.Background()
	if group == "consumer" {
		with = context.WithValue(with, "opt_in_kafka_next_gen_balancer_beta", true) //nolint:staticcheck // the client's name
	}
	id := r.topic(group)
	seen, committed := map[string]bool{}, map[int32]int64{}
	r.mu.Lock()
	r.seen[group], r.committed[id] = seen, committed
	r.mu.Unlock()
	done := func() bool {
		r.idem.mu.Lock()
		defer r.idem.mu.Unlock()
		for v := range r.idem.acked {
			if !seen[v] {
				return false
			}
		}
		return true
	}
	for late := (time.Time{}); ; {
		cl := harness.Client(r.t, r.addr, kgo.WithContext(with), kgo.ConsumerGroup(id), kgo.ConsumeTopics(r.topic("idem")),
			kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.FetchMaxWait(200*time.Millisecond))
		for life := time.Now().Add(4 * time.Second); time.Now().Before(life); {
			poll, stop := context.WithTimeout(r.t.Context(), time.Second)
			fetches := cl.PollFetches(poll)
			stop()
			recs := fetches.Records()
			for _, rec := range recs {
				seen[string(rec.Value)] = true
			}
			if len(recs) > 0 && cl.CommitRecords(r.t.Context(), recs...) == nil {
				for _, rec := range recs {
					committed[rec.Partition] = max(committed[rec.Partition], rec.Offset+1)
				}
			}
			if ctx.Err() != nil && done() {
				break
			}
		}
		cl.Close()
		switch {
		case ctx.Err() == nil:
		case done():
			return
		case late.IsZero():
			late = time.Now()
		case time.Since(late) > time.Minute:
			r.t.Errorf("%s: group %s does not get everything that was acknowledged", r.name, group)
			return
		}
	}
}

// administer makes, changes and deletes topics.
func (r *round) administer(ctx context.Context) {
	cl := harness.Client(r.t, r.addr)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	value := "123456"
	for i := 0; ctx.Err() == nil; i++ {
		name := r.topic(fmt.Sprint("admin", i))
		by, stop := context.WithTimeout(r.t.Context(), 20*time.Second)
		if _, err := adm.CreateTopic(by, 1, 1, nil, name); err == nil {
			adm.AlterTopicConfigs(by, []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, name)
			adm.CreatePartitions(by, 1, name)
			if i%3 == 0 {
				r.made = append(r.made, name)
			} else if _, err := adm.DeleteTopic(by, name); err == nil {
				r.gone = append(r.gone, name)
			}
		}
		stop()
		time.Sleep(100 * time.Millisecond)
	}
}

// check compares, and takes the round's topics and groups away.
func (r *round) check() {
	r.t.Helper()
	values := func(recs []*kgo.Record) map[string]int {
		n := map[string]int{}
		for _, rec := range recs {
			n[string(rec.Value)]++
		}
		return n
	}
	plain, idem := values(harness.ReadAll(r.t, r.addr, r.topic("plain"))), values(harness.ReadAll(r.t, r.addr, r.topic("idem")))
	for v := range r.plain.acked {
		if plain[v] == 0 {
			r.t.Errorf("%s: record %s was acknowledged and is lost", r.name, v)
		}
	}
	for v := range r.idem.acked {
		if idem[v] == 0 {
			r.t.Errorf("%s: record %s of an idempotent producer was acknowledged and is lost", r.name, v)
		}
	}
	for v, n := range idem {
		if n > 1 {
			r.t.Errorf("%s: record %s of an idempotent producer is there %d times", r.name, v, n)
		}
	}
	r.checkTxns(values(append(harness.ReadCommitted(r.t, r.addr, r.topic("txa")), harness.ReadCommitted(r.t, r.addr, r.topic("txb"))...)))
	r.checkAdmin()
}

func (r *round) checkTxns(got map[string]int) {
	parts := map[string]int{}
	for v, n := range got {
		id, _, _ := strings.Cut(v, ".")
		parts[id]++
		if n > 1 {
			r.t.Errorf("%s: record %s of a transaction is there %d times", r.name, v, n)
		}
	}
	for id, n := range parts {
		if n != 4 {
			r.t.Errorf("%s: %d of 4 records of transaction %s are there", r.name, n, id)
		}
	}
	for id, committed := range r.txns {
		if (parts[id] > 0) != committed {
			r.t.Errorf("%s: transaction %s: committed %v, but %d of its records are there", r.name, id, committed, parts[id])
		}
	}
}

func (r *round) checkAdmin() {
	cl := harness.Client(r.t, r.addr)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ctx, stop := context.WithTimeout(r.t.Context(), time.Minute)
	defer stop()
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		r.t.Errorf("%s: list topics: %v", r.name, err)
	}
	for _, name := range r.made {
		if !topics.Has(name) {
			r.t.Errorf("%s: topic %s was made and is not there", r.name, name)
		}
	}
	for _, name := range r.gone {
		if topics.Has(name) {
			r.t.Errorf("%s: topic %s was deleted and is there", r.name, name)
		}
	}
	for id, committed := range r.committed {
		offsets, err := adm.FetchOffsets(ctx, id)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			r.t.Errorf("%s: offsets of group %s: %v", r.name, id, err)
		}
		for p, want := range committed {
			if o, ok := offsets.Lookup(r.topic("idem"), p); !ok || o.At < want {
				r.t.Errorf("%s: group %s has committed %d of partition %d, is told %d", r.name, id, want, p, o.At)
			}
		}
	}
	for name := range topics { // those that strange requests have made, too
		adm.DeleteTopic(ctx, name)
	}
	adm.DeleteGroups(ctx, r.topic("classic"), r.topic("consumer"))
}
