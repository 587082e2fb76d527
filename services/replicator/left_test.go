package replicator

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// one is a batch of one record.
func one(producer int64, attributes int16, key, value []byte) kmsg.RecordBatch {
	r := kmsg.Record{Key: key, Value: value}
	r.Length = int32(len(r.AppendTo(nil)) - 1) // a length of 0 takes one byte
	return kmsg.RecordBatch{Magic: 2, Attributes: attributes, ProducerID: producer, FirstSequence: -1, NumRecords: 1, Records: r.AppendTo(nil)}
}

// logOf are the records of a partition as a reader of all gets them.
func logOf(t *testing.T, batches ...kmsg.RecordBatch) []*kgo.Record {
	t.Helper()
	var raw []byte
	for i, b := range batches {
		b.FirstOffset = int64(i)
		b.Length = int32(len(b.AppendTo(nil)) - 12)
		raw = b.AppendTo(raw)
	}
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches, p.HighWatermark = raw, int64(len(batches))
	o := kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, DisableCRCValidation: true, Topic: "t"}
	got, _ := kgo.ProcessFetchPartition(o, &p, kgo.DefaultDecompressor(), nil)
	if got.Err != nil || len(got.Records) != len(batches) {
		t.Fatalf("%d of %d records, %v", len(got.Records), len(batches), got.Err)
	}
	return got.Records
}

const (
	inTxn  = 0x10
	marker = 0x30
)

func TestOnlyWhatIsDecidedIsKnown(t *testing.T) {
	data := func(producer int64, attributes int16, value string) kmsg.RecordBatch {
		return one(producer, attributes, nil, []byte(value))
	}
	end := func(producer int64, commit byte) kmsg.RecordBatch {
		return one(producer, marker, []byte{0, 0, 0, commit}, []byte{0, 0, 0, 0, 0, 0})
	}
	var got []string
	d := decided{open: map[int64][]*kgo.Record{}, do: func(r *kgo.Record) { got = append(got, string(r.Value)) }}
	for _, r := range logOf(t,
		end(1, 1), // of a transaction that compaction has taken
		data(1, inTxn, "a"), data(2, inTxn, "other"), data(1, inTxn, "b"), end(1, 1),
		data(1, inTxn, "given up"), end(1, 0),
		data(-1, 0, "plain"),
		data(1, inTxn, "left"),
	) {
		d.take(r)
	}
	if diff := cmp.Diff([]string{"a", "b", "plain"}, got); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
	var left []string
	for _, r := range d.open[1] {
		left = append(left, fmt.Sprint(r.Offset, string(r.Value)))
	}
	if diff := cmp.Diff([]string{"8left"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestDestinationOf(t *testing.T) {
	for key, want := range map[string]destKey{
		"cluster/sensors/2/shop.sensors":        {"shop.sensors", 2},
		"cluster/sensors/2/shop.sensors/newest": {"shop.sensors", 2},
	} {
		if got, ok := destinationOf(key); !ok || got != want {
			t.Errorf("destinationOf(%q) = %v, %v, want %v", key, got, ok, want)
		}
	}
	for _, key := range []string{"", "a/b/c", "a/b/x/c", "a/b/-1/c", "a/b/4294967296/c"} {
		if got, ok := destinationOf(key); ok {
			t.Errorf("destinationOf(%q) = %v", key, got)
		}
	}
}

// What was left is ended in every partition that it is in, as it was noted, and
// in none that is gone.
func TestDecide(t *testing.T) {
	t.Parallel()
	dst := cluster(t, kfake.SeedTopics(3, "sensors"))
	l := newTestLink(t, dst)
	if err := l.ledger.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	joined := map[string][]int32{}
	dst.ControlKey(int16(kmsg.AddPartitionsToTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		for _, of := range r.(*kmsg.AddPartitionsToTxnRequest).Topics {
			joined[of.Topic] = slices.Sorted(slices.Values(of.Partitions))
		}
		return nil, nil, false
	})
	var left []*kgo.Record
	for _, key := range []string{"c/sensors/0/sensors", "c/sensors/2/sensors", "c/sensors/7/sensors", "c/gone/0/gone", "what"} {
		left = append(left, &kgo.Record{Key: []byte(key)})
	}
	var ends []bool
	dst.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		ends = append(ends, r.(*kmsg.EndTxnRequest).Commit)
		return nil, nil, false
	})
	for _, commit := range []bool{true, false} {
		parts, err := l.partitionsOf(t.Context(), left)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.decide(t.Context(), &undecided{parts, commit}); err != nil {
			t.Fatal(err)
		}
		if err := l.ledger.start(t.Context()); err != nil { // a new client, as decide wants
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]bool{true, false}, ends); diff != "" {
		t.Errorf("ended with commit (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]int32{"sensors": {0, 2}, l.positionLog(): {0}}, joined); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

// How the destination ends the last transaction is asked before a new producer
// has it forgotten, and remembered over one that began in vain.
func TestAsk(t *testing.T) {
	t.Parallel()
	dst := cluster(t)
	l := newTestLink(t, dst)
	var state string
	dst.ControlKey(int16(kmsg.DescribeTransactions), func(r kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		resp := r.ResponseKind().(*kmsg.DescribeTransactionsResponse)
		resp.TransactionStates = []kmsg.DescribeTransactionsResponseTransactionState{{TransactionalID: l.txnID(), State: state}}
		return resp, nil, true
	})
	for _, step := range []struct {
		state string
		want  bool
	}{
		{"PrepareCommit", true}, {"Empty", true}, {"CompleteAbort", false}, {"Empty", false},
		{"CompleteCommit", true}, {"Ongoing", false}, {"PrepareAbort", false},
	} {
		state = step.state
		if l.ledger.ask(t.Context()); l.ledger.commits != step.want {
			t.Errorf("%s: commits %v, want %v", step.state, l.ledger.commits, step.want)
		}
	}
}

// newTestLink is a link to dst that nobody runs.
func newTestLink(t *testing.T, dst *kfake.Cluster) *link {
	t.Helper()
	cfg := config(dst.ListenAddrs(), dst.ListenAddrs()...)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLink(cfg, cfg.Links[0], m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// The answer to a commit may get lost, and a partition be stopped before the
// next producer learns of it.
func TestReconcileOfAStoppedPartition(t *testing.T) {
	before, after := position{next: 10, epoch: 1, dest: 10}, position{next: 20, epoch: 1, dest: 21}
	lane := &lane{}
	l := &link{source: "c", parts: map[key]*partition{}}
	l.ledger = ledger{l: l, exact: true, known: map[string]remembered{}}
	add := func(num int32, known position, active bool) *partition {
		p := &partition{key: key{lane, "t", num}, to: "t", position: before, saved: before, active: active, read: 30}
		l.parts[p.key] = p
		l.ledger.known[l.positionKey(p)] = remembered{position: known}
		return p
	}
	same, stopped, running := add(0, before, false), add(1, after, false), add(2, after, true)
	l.reconcile()
	if same.position != before || stopped.position != unknown || !stopped.fresh || running.position != after {
		t.Errorf("positions %+v, %+v, %+v", same.position, stopped.position, running.position)
	}
}
