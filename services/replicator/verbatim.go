package replicator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/replicator/batch"
	"github.com/waysideos/wayside/services/site"
)

// A link with compression "keep" carries batches as they lie in the box's log:
// fetched and produced by requests of our own, since franz-go takes records
// apart. What a link owes is the same, and so is the way of a lot; in queues
// a batch is one record, whose value is the batch and whose offset is that of
// its last record. A batch that is nothing to carry has no value. A partition
// whose batches the destination refuses is carried as records from then on.

// verbatim says whether a lane carries batches.
func (l *link) verbatim(n *lane) bool {
	return l.cfg.Compression == site.KeepBatches && l.cfg.Guarantee == site.ExactlyOnce && !l.down && n.rule.Plain() && n.newest == nil && n.first == nil
}

// batches has a lane read whole batches. The loop changes at while the
// reader is halted.
type batches struct {
	cl   *kgo.Client
	size int32 // bytes of an answer
	at   map[string]map[int32]int64
	ids  map[string]kadm.TopicID // of these topics: one that was made anew is another
	open kgo.Decompressor
}

func (b *batches) add(p *partition) {
	if b.at[p.topic] == nil {
		b.at[p.topic] = map[int32]int64{}
	}
	b.at[p.topic][p.num], b.ids[p.topic] = p.next, p.id
}

func (b *batches) remove(topic string, num int32) {
	delete(b.at[topic], num)
	if len(b.at[topic]) == 0 {
		delete(b.at, topic)
	}
}

// poll fetches once; ctx or the broker's long poll ends it.
func (b *batches) poll(ctx context.Context) kgo.Fetches {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(nearFetch/time.Millisecond), 1, b.size
	req.IsolationLevel, req.SessionEpoch = 1, -1 // committed records, no session
	names := map[[16]byte]string{}
	for topic, nums := range b.at {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = topic, b.ids[topic]
		names[t.TopicID] = topic
		for num, at := range nums {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.FetchOffset, p.PartitionMaxBytes = num, at, min(b.size, fetchMax)
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	got, err := b.cl.Request(ctx, req)
	if err == nil {
		err = kerr.ErrorForCode(got.(*kmsg.FetchResponse).ErrorCode)
	}
	if err != nil {
		select {
		case <-ctx.Done():
		case <-time.After(normal.backoffMin):
		}
		return nil
	}
	var all kgo.Fetch
	for _, t := range got.(*kmsg.FetchResponse).Topics {
		t.Topic = cmp.Or(t.Topic, names[t.TopicID]) // version 13 and later have ids only
		ft := kgo.FetchTopic{Topic: t.Topic}
		for i := range t.Partitions {
			fp := kgo.FetchPartition{Partition: t.Partitions[i].Partition}
			fp.Records, fp.Err = b.take(t.Topic, &t.Partitions[i])
			if len(fp.Records) > 0 || fp.Err != nil {
				ft.Partitions = append(ft.Partitions, fp)
			}
		}
		if len(ft.Partitions) > 0 {
			all.Topics = append(all.Topics, ft)
		}
	}
	if len(all.Topics) == 0 {
		return nil
	}
	return kgo.Fetches{all}
}

// take makes queue records of a partition's batches: those of transactions
// that were given up, and the ends of transactions, have no value.
func (b *batches) take(topic string, p *kmsg.FetchResponseTopicPartition) (rs []*kgo.Record, err error) {
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return nil, err
	}
	all, damage := batch.Split(p.RecordBatches)
	aborted := map[int64]bool{} // producers
	slices.SortFunc(p.AbortedTransactions, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
		return int(a.FirstOffset - b.FirstOffset)
	})
	for _, one := range all {
		for len(p.AbortedTransactions) > 0 && p.AbortedTransactions[0].FirstOffset <= one.Last() {
			aborted[p.AbortedTransactions[0].ProducerID] = true
			p.AbortedTransactions = p.AbortedTransactions[1:]
		}
		r := &kgo.Record{
			Topic: topic, Partition: p.Partition, Offset: one.Last(), LeaderEpoch: one.LeaderEpoch(),
			Timestamp: time.UnixMilli(one.MaxTimestamp()),
		}
		at := b.at[topic][p.Partition]
		switch {
		case one.Last() < at:
			continue
		case one.Control():
			delete(aborted, one.ProducerID())
		case one.Records() == 0 || one.Transactional() && aborted[one.ProducerID()]:
		case one.Base() < at || !one.AsIs():
			made, err := one.From(at, b.open)
			if err != nil {
				return rs, err
			}
			r.Value, r.LeaderEpoch = made, -1 // -1 also says that offsets before the last may have gaps
		default:
			r.Value = one
		}
		b.at[topic][p.Partition] = one.Last() + 1
		rs = append(rs, r)
	}
	if damage != nil && len(rs) == 0 {
		return nil, fmt.Errorf("read %s/%d: %w", topic, p.Partition, damage)
	}
	return rs, nil
}
