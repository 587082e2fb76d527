package replicator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/replicator/batch"
)

// destKey is a partition at the destination.
type destKey struct {
	topic string
	num   int32
}

// byTopic are the numbers of partitions.
func byTopic(of iter.Seq[destKey]) map[string][]int32 {
	nums := map[string][]int32{}
	for k := range of {
		nums[k.topic] = append(nums[k.topic], k.num)
	}
	return nums
}

// stamper produces whole batches as the producer that the link's client is,
// in its transactions: a broker that knows nothing of a producer takes a batch
// whatever its sequence, and only a transaction takes back what was taken
// behind a refused one. So profiles ask for exactly once with kept batches.
// Nothing is sent twice: whatever fails, the transaction is given up and a new
// producer begins, which is the link's way in any case.
type stamper struct {
	l        *link
	id       int64
	epoch    int16
	sequence map[destKey]int32
	leaders  map[destKey]int32
}

// inflight requests to a broker; Kafka remembers five batches of a producer.
const inflight = 5

// parcel is a batch and the partition that it is of.
type parcel struct {
	p *partition
	r *kgo.Record
	b batch.Batch
}

// ordered is a produce request that says when it is written, so that the one
// behind it is not written before. Topic names end with version 12, and 11 is
// the last that wants partitions to be part of the transaction before.
type ordered struct {
	*kmsg.ProduceRequest
	once    *sync.Once
	written chan struct{}
}

func (ordered) MaxVersion() int16 { return 11 }

// AppendTo implements kmsg.Request.
func (o ordered) AppendTo(b []byte) []byte {
	defer o.once.Do(func() { close(o.written) })
	return o.ProduceRequest.AppendTo(b)
}

// send produces parcels, of each partition in order, and waits for the
// answers, which go into the lots.
func (s *stamper) send(ctx context.Context, all []parcel) error {
	if len(all) == 0 {
		return nil
	}
	id, epoch, err := s.l.dst.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("ask for the producer's id: %w", err)
	}
	if id != s.id || epoch != s.epoch || s.sequence == nil {
		s.id, s.epoch, s.sequence = id, epoch, map[destKey]int32{}
	}
	if err := s.findLeaders(ctx, all); err != nil {
		return err
	}
	of := map[destKey]bool{}
	for _, one := range all {
		of[destKey{one.p.to, one.p.num}] = true
	}
	if err := s.l.join(ctx, id, epoch, of); err != nil {
		return err
	}
	requests := map[int32][][]parcel{} // by leader, requests of at most one batch a partition
	depth := map[destKey]int{}
	for _, one := range all {
		k := destKey{one.p.to, one.p.num}
		n := int32(one.b.Records())
		one.b.Stamp(s.id, s.epoch, s.sequence[k])
		s.sequence[k] = (s.sequence[k] + n) & math.MaxInt32
		at := s.leaders[k]
		if depth[k] == len(requests[at]) {
			requests[at] = append(requests[at], nil)
		}
		requests[at][depth[k]] = append(requests[at][depth[k]], one)
		depth[k]++
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(requests))
	for leader, of := range requests {
		wg.Go(func() { errs <- s.produce(ctx, leader, of) })
	}
	wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

func (s *stamper) findLeaders(ctx context.Context, all []parcel) error {
	if s.leaders == nil {
		s.leaders = map[destKey]int32{}
	}
	var topics []string
	for _, one := range all {
		if _, ok := s.leaders[destKey{one.p.to, one.p.num}]; !ok {
			topics = append(topics, one.p.to)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	got, err := kadm.NewClient(s.l.dst).Metadata(ctx, topics...)
	if err != nil {
		return fmt.Errorf("ask for leaders: %w", err)
	}
	got.Topics.EachPartition(func(p kadm.PartitionDetail) {
		if p.Err == nil && p.Leader >= 0 {
			s.leaders[destKey{p.Topic, p.Partition}] = p.Leader
		}
	})
	for _, one := range all {
		if _, ok := s.leaders[destKey{one.p.to, one.p.num}]; !ok {
			return fmt.Errorf("%s/%d has no leader at the destination", one.p.to, one.p.num)
		}
	}
	return nil
}

// produce sends requests to one broker, some at a time and in order.
func (s *stamper) produce(ctx context.Context, leader int32, requests [][]parcel) error {
	broker := s.l.dst.Broker(int(leader))
	var wg sync.WaitGroup
	slots := make(chan struct{}, inflight)
	var mu sync.Mutex
	var failed error
	for _, parcels := range requests {
		req := ordered{s.request(parcels), new(sync.Once), make(chan struct{})}
		slots <- struct{}{}
		answered := make(chan struct{})
		wg.Go(func() {
			defer func() { close(answered); <-slots }()
			got, err := broker.Request(ctx, req)
			if err == nil {
				err = s.answered(parcels, got.(*kmsg.ProduceResponse))
			}
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
		select {
		case <-req.written:
		case <-answered:
		}
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
	}
	wg.Wait()
	return failed
}

func (s *stamper) request(parcels []parcel) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30_000
	id := s.l.txnID()
	req.TransactionID = &id
	at := map[string]int{}
	for _, one := range parcels {
		i, ok := at[one.p.to]
		if !ok {
			t := kmsg.NewProduceRequestTopic()
			t.Topic = one.p.to
			i = len(req.Topics)
			at[t.Topic] = i
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = one.p.num, one.b
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	return req
}

// answered notes what became of each batch. The error is about all.
func (s *stamper) answered(parcels []parcel, got *kmsg.ProduceResponse) error {
	type answer struct {
		err  error
		base int64
	}
	answers := map[destKey]answer{}
	for _, t := range got.Topics {
		for _, p := range t.Partitions {
			answers[destKey{t.Topic, p.Partition}] = answer{kerr.ErrorForCode(p.ErrorCode), p.BaseOffset}
		}
	}
	for _, one := range parcels {
		a, ok := answers[destKey{one.p.to, one.p.num}]
		if !ok {
			return fmt.Errorf("the destination says nothing of %s/%d", one.p.to, one.p.num)
		}
		s.l.delivered(one, a.base, a.err)
	}
	return nil
}

// undelivered notes that what has no answer yet will have none.
func (l *link) undelivered(all []parcel, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range all {
		if lot := &one.p.lot; lot.err == nil && lot.acked <= one.r.Offset {
			lot.err = err
		}
	}
}

// delivered is what answered is for a record.
func (l *link) delivered(one parcel, base int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lot, n := &one.p.lot, int64(one.b.Records())
	switch {
	case err != nil:
		if lot.err == nil {
			lot.err = err
		}
	case lot.err != nil: // the transaction takes it back
	default:
		first := one.r.Offset - n + 1
		if first != lot.acked || base != lot.dest {
			lot.run = 0
		}
		lot.run += n
		if one.r.LeaderEpoch < 0 {
			lot.run = 0
		}
		lot.acked, lot.dest = one.r.Offset+1, base+n
		lot.sent.records += n
		lot.sent.bytes += int64(len(one.b))
		l.state.ok()
	}
}
