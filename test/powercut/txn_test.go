package powercut

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/test/harness"
)

const (
	txnTopic = "transactions"
	txnGroup = "transactions-reader"
	txnID    = "powercut"
	txnParts = 2
	txnEach  = 3 // records of a transaction in each partition
)

// transactions runs one transaction after the other, each over two partitions
// and a group's offset, and remembers how each ended. Every fourth is
// aborted.
type transactions struct {
	topicID kadm.TopicID
	next    int64
	ended   map[int64]bool // by number: committed or aborted, as acknowledged
}

// start runs transactions until the returned stop is called, which waits for
// the end of the one under way. reached waits until some have ended.
func (x *transactions) start(t *testing.T, box *harness.Box, some int) (reached func() error, stop func()) {
	t.Helper()
	if x.ended == nil {
		x.ended = map[int64]bool{}
	}
	client := harness.Client(t, box.Addr("kafka"), kgo.TransactionalID(txnID), kgo.DefaultProduceTopic(txnTopic),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(time.Minute))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	topics, err := kadm.NewClient(client).ListTopics(ctx, txnTopic)
	if err != nil {
		t.Fatal(err)
	}
	x.topicID = topics[txnTopic].ID
	enough, done := make(chan struct{}), make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		for n := 1; ctx.Err() == nil; n++ {
			commit := x.next%4 != 3
			x.next++
			if failed = x.one(ctx, client, x.next-1, commit); failed != nil {
				return // the power is gone, or the test is over
			}
			x.ended[x.next-1] = commit
			if n == some {
				close(enough)
			}
		}
	}()
	reached = func() error {
		select {
		case <-enough:
			return nil
		case <-done:
			return fmt.Errorf("transactions before the power is cut: %v", failed)
		}
	}
	return reached, func() {
		cancel()
		client.Close() // what is in flight ends only by this
		<-done
	}
}

// one is transaction number n.
func (x *transactions) one(ctx context.Context, client *kgo.Client, n int64, commit bool) error {
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	var records []*kgo.Record
	for i := range txnParts * txnEach {
		records = append(records, &kgo.Record{Partition: int32(i % txnParts), Value: fmt.Appendf(nil, "%d", n)})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	if err := x.commitInTxn(ctx, client, n); err != nil {
		return err
	}
	return client.EndTransaction(ctx, kgo.TransactionEndTry(commit))
}

// commitInTxn makes n the group's offset, as a part of the transaction.
func (x *transactions) commitInTxn(ctx context.Context, client *kgo.Client, n int64) error {
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = txnID, id, epoch, txnGroup
	added, err := add.RequestWith(ctx, client)
	if err == nil && added.ErrorCode != 0 {
		err = fmt.Errorf("add offsets: error %d", added.ErrorCode)
	}
	if err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = txnID, id, epoch, txnGroup, -1
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset = n
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = txnTopic, x.topicID, append(rt.Partitions, part)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		return fmt.Errorf("commit in a transaction: error %d", code)
	}
	return nil
}

// check reads what is committed: transactions are there whole or not at all,
// as they were acknowledged, and the group's offset is that of the last one.
func (x *transactions) check(t *testing.T, box *harness.Box, round int) {
	t.Helper()
	x.fence(t, box)
	seen := map[int64]int{}
	newest := int64(-1)
	for _, r := range harness.ReadCommitted(t, box.Addr("kafka"), txnTopic) {
		var n int64
		if _, err := fmt.Sscanf(string(r.Value), "%d", &n); err != nil {
			t.Fatalf("round %d: offset %d holds %q, which was never written", round, r.Offset, r.Value)
		}
		seen[n]++
		newest = max(newest, n)
	}
	for n := range x.next {
		commit, acked := x.ended[n]
		switch got := seen[n]; {
		case got != 0 && got != txnParts*txnEach:
			t.Errorf("round %d: transaction %d is there with %d of %d records", round, n, got, txnParts*txnEach)
		case acked && commit && got == 0:
			t.Errorf("round %d: transaction %d was committed and is gone", round, n)
		case acked && !commit && got != 0:
			t.Errorf("round %d: transaction %d was aborted and can be read", round, n)
		}
	}
	client := harness.Client(t, box.Addr("kafka"))
	defer client.Close()
	offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), txnGroup)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := offsets.Lookup(txnTopic, 0)
	if newest >= 0 && (!ok || got.At != newest) {
		t.Errorf("round %d: the group is at %d, and the last committed transaction is %d", round, got.At, newest)
	}
}

// fence ends what the cut left open, as every transactional producer does
// when it starts.
func (x *transactions) fence(t *testing.T, box *harness.Box) {
	t.Helper()
	client := harness.Client(t, box.Addr("kafka"), kgo.TransactionalID(txnID))
	defer client.Close()
	harness.Eventually(t, time.Minute, "the transactional producer begins anew", func(ctx context.Context) error {
		_, _, err := client.ProducerID(ctx)
		return err
	})
}
