package broker_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// txnProtocols are the two ways in which clients do transactions: every test
// goes both.
var txnProtocols = map[string]kgo.Opt{
	"before KIP-890": kgo.MaxVersions(kversion.V3_5_0()),
	"since KIP-890":  kgo.MaxVersions(kversion.Stable()),
}

func overProtocols(t *testing.T, test func(t *testing.T, protocol kgo.Opt)) {
	for name, p := range txnProtocols {
		t.Run(name, func(t *testing.T) { test(t, p) })
	}
}

func withTopics(names ...string) func(*broker.Config) {
	return func(c *broker.Config) {
		for _, n := range names {
			c.Topics = append(c.Topics, site.Topic{Name: n, Partitions: 2})
		}
	}
}

// inTxn begins a transaction, produces values, and ends it.
func inTxn(t *testing.T, cl *kgo.Client, end kgo.TransactionEndTry, topic string, values ...string) {
	t.Helper()
	must(t, cl.BeginTransaction())
	for i, v := range values {
		produce(t, cl, &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: []byte(v)})
	}
	must(t, cl.EndTransaction(within(t), end))
}

func valuesOf(recs []*kgo.Record) (out []string) {
	for _, r := range recs {
		out = append(out, string(r.Value))
	}
	slices.Sort(out)
	return out
}

func committedOnly(topic string) []kgo.Opt {
	return []kgo.Opt{kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted())}
}

// TestTransactions: consumers see what was committed, all of it, and nothing
// of what was aborted or is open; after a restart too.
func TestTransactions(t *testing.T) {
	overProtocols(t, func(t *testing.T, protocol kgo.Opt) {
		fsys := vfs.NewCrashable(1)
		b := start(t, fsys, withTopics("t"))
		cl := client(t, b, protocol, kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		inTxn(t, cl, kgo.TryCommit, "t", "a", "b", "c")
		inTxn(t, cl, kgo.TryAbort, "t", "no", "never")
		inTxn(t, cl, kgo.TryCommit, "t", "d")
		d, err := kadm.NewClient(cl).DescribeTransactions(within(t), "x")
		must(t, err)
		if bumped := d["x"].ProducerEpoch == 3; bumped != strings.HasSuffix(t.Name(), "since_KIP-890") {
			t.Errorf("epoch %d after three transactions", d["x"].ProducerEpoch)
		}
		want := []string{"a", "b", "c", "d"}
		if got := valuesOf(consume(t, client(t, b, committedOnly("t")...), 4)); !slices.Equal(got, want) {
			t.Errorf("committed: %v, want %v", got, want)
		}
		must(t, b.stop())
		b = start(t, fsys)
		all := []string{"a", "b", "c", "d", "never", "no"}
		if got := valuesOf(consume(t, client(t, b, kgo.ConsumeTopics("t")), 6)); !slices.Equal(got, all) {
			t.Errorf("uncommitted: %v, want %v", got, all)
		}
		if got := valuesOf(consume(t, client(t, b, committedOnly("t")...), 4)); !slices.Equal(got, want) {
			t.Errorf("committed, after a restart: %v, want %v", got, want)
		}
	})
}

// TestCommittedAtOnce: what is committed can be read the moment that the
// commit is answered, and the next transaction begins without a retry.
func TestCommittedAtOnce(t *testing.T) {
	overProtocols(t, func(t *testing.T, protocol kgo.Opt) {
		b := start(t, vfs.NewCrashable(1), withTopics("t"))
		retries := &retryCounter{}
		cl := client(t, b, protocol, kgo.TransactionalID("x"), kgo.WithHooks(retries), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		adm := kadm.NewClient(client(t, b))
		for i := range 20 {
			inTxn(t, cl, kgo.TryCommit, "t", "v", "v")
			ends, err := adm.ListEndOffsets(within(t), "t")
			must(t, err)
			stable, err := adm.ListCommittedOffsets(within(t), "t")
			must(t, err)
			for p := range int32(2) {
				end, _ := ends.Lookup("t", p)
				if s, _ := stable.Lookup("t", p); s.Offset != end.Offset || s.Offset != int64(2*(i+1)) {
					t.Fatalf("transaction %d, partition %d: last stable offset %d, end %d, want %d", i, p, s.Offset, end.Offset, 2*(i+1))
				}
			}
		}
		if retries.n > 0 {
			t.Errorf("%d requests of the transactions had to be sent again", retries.n)
		}
	})
}

// retryCounter counts EndTxn and AddPartitionsToTxn beyond one a transaction.
type retryCounter struct {
	ends, n int
}

func (c *retryCounter) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, _ kgo.BrokerE2E) {
	if kmsg.Key(key) == kmsg.EndTxn {
		if c.ends++; c.ends > 20 {
			c.n++
		}
	}
}

// TestZombie: a producer that was replaced can do no more harm.
func TestZombie(t *testing.T) {
	overProtocols(t, func(t *testing.T, protocol kgo.Opt) {
		b := start(t, vfs.NewCrashable(1), withTopics("t"))
		opts := []kgo.Opt{protocol, kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner())}
		old := client(t, b, opts...)
		must(t, old.BeginTransaction())
		produce(t, old, &kgo.Record{Topic: "t", Value: []byte("zombie")})
		fresh := client(t, b, opts...)
		inTxn(t, fresh, kgo.TryCommit, "t", "fresh")
		err := old.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: []byte("zombie 2")}).FirstErr()
		if err == nil {
			err = old.EndTransaction(within(t), kgo.TryCommit)
		}
		if !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.ProducerFenced) {
			t.Errorf("the old producer goes on with %v, want it fenced", err)
		}
		inTxn(t, fresh, kgo.TryCommit, "t", "again")
		want := []string{"again", "fresh"}
		if got := valuesOf(consume(t, client(t, b, committedOnly("t")...), 2)); !slices.Equal(got, want) {
			t.Errorf("committed: %v, want %v", got, want)
		}
	})
}

// TestTransactionTimeout: a producer that went silent does not hold up
// consumers for longer than it said.
func TestTransactionTimeout(t *testing.T) {
	overProtocols(t, func(t *testing.T, protocol kgo.Opt) {
		b := start(t, vfs.NewCrashable(1), withTopics("t"))
		opts := []kgo.Opt{protocol, kgo.RecordPartitioner(kgo.ManualPartitioner())}
		silent := client(t, b, append(opts, kgo.TransactionalID("silent"), kgo.TransactionTimeout(time.Second))...)
		must(t, silent.BeginTransaction())
		produce(t, silent, &kgo.Record{Topic: "t", Value: []byte("silent")})
		inTxn(t, client(t, b, append(opts, kgo.TransactionalID("x"))...), kgo.TryCommit, "t", "behind")
		got := consume(t, client(t, b, committedOnly("t")...), 1)
		if string(got[0].Value) != "behind" {
			t.Errorf("got %s", got[0].Value)
		}
		adm := kadm.NewClient(client(t, b))
		d, err := adm.DescribeTransactions(within(t), "silent")
		must(t, err)
		if got := d["silent"].State; got != "CompleteAbort" {
			t.Errorf("state %s, want CompleteAbort", got)
		}
	})
}

// TestAdminTransactions looks at an open transaction and aborts it by hand.
func TestAdminTransactions(t *testing.T) {
	b := start(t, vfs.NewCrashable(1), withTopics("t"))
	cl := client(t, b, kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(t, cl.BeginTransaction())
	produce(t, cl, &kgo.Record{Topic: "t", Partition: 1, Value: []byte("v")})
	adm := kadm.NewClient(client(t, b))
	ctx := within(t)
	ls, err := adm.ListTransactions(ctx, nil, []string{"Ongoing"})
	must(t, err)
	d, err := adm.DescribeTransactions(ctx, ls.TransactionalIDs()...)
	must(t, err)
	x := d["x"]
	if x.State != "Ongoing" || !slices.Equal(slices.Sorted(maps.Keys(x.Topics["t"])), []int32{1}) {
		t.Errorf("described: %+v", x)
	}
	var topics kadm.TopicsSet
	topics.Add("t", 1)
	marks, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: x.ProducerID, ProducerEpoch: x.ProducerEpoch, CoordinatorEpoch: math.MaxInt32, Topics: topics,
	})
	must(t, err)
	if err := marks[x.ProducerID].Topics["t"].Partitions[1].Err; err != nil {
		t.Errorf("abort by hand: %v", err)
	}
	stable, err := adm.ListCommittedOffsets(ctx, "t")
	must(t, err)
	if s, _ := stable.Lookup("t", 1); s.Offset != 2 {
		t.Errorf("last stable offset %d after the abort, want 2", s.Offset)
	}
	if gone, err := adm.DescribeTransactions(ctx, "y"); err == nil && !errors.Is(gone["y"].Err, kerr.TransactionalIDNotFound) {
		t.Errorf("an id that is not there: %v", gone["y"].Err)
	}
}

// TestExactlyOnce copies numbers from one topic to another in transactions
// while the broker is cut off its power again and again. Every number arrives
// once.
func TestExactlyOnce(t *testing.T) {
	const n = 300
	overProtocols(t, func(t *testing.T, protocol kgo.Opt) {
		at := &moving{fsys: vfs.NewCrashable(1)}
		at.start(t)
		in := client(t, at.running)
		for i := range n {
			produce(t, in, &kgo.Record{Topic: "in", Partition: int32(i % 2), Value: fmt.Append(nil, i)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			for ctx.Err() == nil {
				if err := copyAll(ctx, at.addr, protocol); err != nil && ctx.Err() == nil {
					t.Logf("begin anew: %v", err)
				}
			}
		}()
		t.Cleanup(func() { cancel(); <-copied })
		var cuts int
		for rng := rand.New(rand.NewPCG(1, 1)); at.stable("out") < n; cuts++ {
			at.cut(t, func() bool { return at.stable("out") >= n }, 30+rng.Int64N(100))
		}
		if cuts < 4 {
			t.Errorf("the power was cut %d times, too rarely to show anything", cuts)
		}
		seen := map[string]int{}
		for _, v := range valuesOf(consume(t, client(t, at.running, committedOnly("out")...), n)) {
			seen[v]++
		}
		if len(seen) != n {
			t.Errorf("%d records have %d values, want each once", n, len(seen))
		}
	})
}

// copyAll copies until ctx ends or the session is no more good.
func copyAll(ctx context.Context, addr string, protocol kgo.Opt) error {
	s, err := kgo.NewGroupTransactSession(protocol, kgo.SeedBrokers(addr), kgo.TransactionalID("copy"),
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.HeartbeatInterval(50*time.Millisecond), kgo.SessionTimeout(3*time.Second),
		kgo.MetadataMinAge(20*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		fs := s.PollRecords(ctx, 5)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.Begin(); err != nil {
			return err
		}
		for _, r := range fs.Records() {
			s.Produce(ctx, &kgo.Record{Topic: "out", Value: r.Value}, nil)
		}
		if _, err := s.End(ctx, kgo.TryCommit); err != nil {
			return err
		}
	}
}

// moving is a broker that comes back on the same address.
type moving struct {
	*running
	fsys *vfs.Crashable
}

func (m *moving) start(t *testing.T) {
	var addr string
	if m.running != nil {
		addr = m.addr
	}
	m.running = start(t, m.fsys, withTopics("in", "out"), func(c *broker.Config) {
		if addr == "" {
			return
		}
		c.Listeners[0].Close()
		ln, err := net.Listen("tcp", addr)
		must(t, err)
		c.Listeners = []net.Listener{ln}
	})
	if addr != "" {
		m.addr = addr
	}
}

// cut pulls the plug after some operations on the disk, unless all is done
// before, and puts it back.
func (m *moving) cut(t *testing.T, done func() bool, after int64) {
	var ops atomic.Int64
	cut := make(chan *vfs.Crashable, 1)
	fsys := m.fsys
	fsys.SetHook(func(op vfs.Op, _ string) error {
		if op != vfs.OpRead && ops.Add(1) == after {
			cut <- fsys.Crash()
		}
		return nil
	})
	eventually(t, "the power is cut, or all is copied", func() bool { return len(cut) > 0 || done() })
	select {
	case m.fsys = <-cut:
	default:
		m.fsys = fsys.Crash()
	}
	m.stop() // complains that the disk is gone
	m.start(t)
}

// stable is how many offsets of a topic are committed.
func (m *moving) stable(topic string) (n int64) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(m.addr))
	if err != nil {
		return 0
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	offs, _ := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	offs.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// TestTransactionOfManyPartitions: what was committed is whole after a power cut.
func TestTransactionOfManyPartitions(t *testing.T) {
	overProtocols(t, func(t *testing.T, protocol kgo.Opt) {
		fsys := vfs.NewCrashable(3)
		b := start(t, fsys, func(c *broker.Config) { c.Topics = []site.Topic{{Name: "t", Partitions: 50}} })
		cl := client(t, b, protocol, kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		must(t, cl.BeginTransaction())
		var recs []*kgo.Record
		for i := range int32(50) {
			recs = append(recs, &kgo.Record{Topic: "t", Partition: i, Value: []byte(strings.Repeat("v", int(i)))})
		}
		produce(t, cl, recs...)
		must(t, cl.EndTransaction(within(t), kgo.TryCommit))
		after := fsys.Crash()
		b.stop()
		b = start(t, after)
		consume(t, client(t, b, committedOnly("t")...), 50)
	})
}
