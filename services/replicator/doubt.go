package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What the destination leaves undecided (left.go) may lie in partitions of
// records alone. Kafka ends a transaction without a marker in those that have no
// leader at that moment: it takes them for deleted ones (seen with 4.3.1; one
// replica, whose broker is away). The positions are decided then, and say what
// the records are to become: they were committed if they lie before the known
// destination offset.
//
// Whatever is undecided becomes what the next transaction becomes that has the
// partition in it. So a partition is in doubt, and none has it, until its leader
// has been asked: at the start, when a connection was lost soon after a
// transaction had it, and when its leader epoch is another one than at the end of
// that transaction. The epoch is the one that the client knows, from metadata that
// it has in any case, so it costs no bytes, and minutes where nothing else has it ask.

// doubtful is how long a lost connection may take to be noticed (the dialer's
// limits, services/kafka).
const doubtful = time.Minute

// doubtWait is how many questions without an answer a partition keeps what is
// read of it: an election takes seconds.
const doubtWait = 4

// touch is the last transaction that had a partition and was committed.
type touch struct {
	at    time.Time
	epoch int32 // the partition's leader epoch before the end was asked for, -1 if unknown
}

// epochs are those of the partitions that a transaction has.
func (d *ledger) epochs(ps []*partition) map[destKey]int32 {
	own := destKey{d.l.positionLog(), 0}
	of := map[destKey]int32{own: d.epoch(own)}
	for _, p := range ps {
		if k := (destKey{p.to, p.num}); p.lot.sent.records > 0 {
			of[k] = d.epoch(k)
		}
	}
	return of
}

// epoch is what the client knows. It knows none of the partitions that have
// batches alone (stamped.go).
func (d *ledger) epoch(k destKey) int32 {
	_, epoch, _ := d.l.dst.PartitionLeader(k.topic, k.num)
	return epoch
}

// suspect puts in doubt what there is a sign of.
func (d *ledger) suspect() {
	cut, before := d.cut.swap(), d.looked.Add(-doubtful)
	d.looked = time.Now()
	for k, last := range d.touched {
		if d.epoch(k) != last.epoch || cut && last.at.After(before) {
			d.doubt[k] = true
			delete(d.touched, k)
		}
	}
}

// doubts is true for a partition that nothing may be sent to.
func (d *ledger) doubts(p *partition) bool { return d.doubt[destKey{p.to, p.num}] }

// settled asks again for what is in doubt, when it is time to. It is false
// while there can be no transaction: something has to be ended first, or is in
// doubt in the log of positions.
func (d *ledger) settled(ctx context.Context) bool {
	l := d.l
	if d.exact {
		d.suspect()
	}
	if len(d.doubt) == 0 {
		d.tries = 0
		return true
	}
	if time.Now().After(d.askAt) {
		within, cancel := context.WithTimeout(ctx, adminWait)
		defer cancel()
		hidden, err := d.examine(within)
		d.tries++
		d.askAt = time.Now().Add(l.pace.backoff(d.tries))
		switch {
		case err != nil && ctx.Err() == nil:
			l.broke(err)
			return false
		case err != nil:
			return false
		case len(hidden) > 0: // ended by a new producer, see start
			l.opened = false
			return false
		case d.tries >= doubtWait:
			d.hold()
		}
	}
	return !d.doubt[destKey{l.positionLog(), 0}]
}

// hold stops what is in doubt: what is read of it would fill the queue that it
// shares with others, and the status has to say why nothing comes. Once there
// is no doubt, it begins as after any stop.
func (d *ledger) hold() {
	for _, p := range d.l.parts {
		if d.doubts(p) && !p.rests() && (p.active || p.err == nil) {
			d.l.stop(p, fmt.Errorf("%s/%d waits: %s/%d has no leader at the destination, or it does not answer", p.topic, p.num, p.to, p.num))
		}
	}
}

// doubtAll has every partition of the destination in doubt that the link
// writes to, or has written to.
func (d *ledger) doubtAll() {
	d.touched, d.doubt = map[destKey]touch{}, map[destKey]bool{}
	for k := range d.reached() {
		d.doubt[k] = true
	}
	for _, p := range d.l.parts {
		d.doubt[destKey{p.to, p.num}] = true
	}
}

// examine asks the leaders of all partitions in doubt. What it is answered for is in
// doubt no more, but for hidden: where the link's producer has something
// undecided, and from which offset on.
func (d *ledger) examine(ctx context.Context) (hidden map[destKey]int64, err error) {
	id, _, err := d.l.dst.ProducerID(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the producer's id: %w", err)
	}
	topics := byTopic(maps.Keys(d.doubt))
	got, err := kadm.NewClient(d.l.dst).Metadata(ctx, sortedKeys(topics)...)
	if err != nil {
		return nil, fmt.Errorf("ask the destination for leaders: %w", err)
	}
	of := map[int32][]destKey{} // by leader
	for k := range d.doubt {
		p, ok := got.Topics[k.topic].Partitions[k.num]
		switch {
		case !ok: // not there, or not for us
			delete(d.doubt, k)
		case p.Leader >= 0:
			of[p.Leader] = append(of[p.Leader], k)
		}
	}
	hidden = map[destKey]int64{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for leader, parts := range of {
		all.Go(func() {
			sure, found := d.look(ctx, d.l.dst.Broker(int(leader)), parts, id)
			mu.Lock()
			defer mu.Unlock()
			for _, k := range sure {
				delete(d.doubt, k)
			}
			maps.Copy(hidden, found)
		})
	}
	all.Wait()
	return hidden, nil
}

// look asks one leader: sure is what there is no doubt of, found is undecided.
func (d *ledger) look(ctx context.Context, leader *kgo.Broker, of []destKey, id int64) (sure []destKey, found map[destKey]int64) {
	stable, err1 := listAt(ctx, leader, of, 1)
	end, err2 := listAt(ctx, leader, of, 0)
	if err1 != nil || err2 != nil {
		return nil, nil // in doubt until it answers
	}
	var open []destKey
	for k, at := range stable {
		if to, ok := end[k]; ok && at >= to {
			sure = append(sure, k)
		} else if ok {
			open = append(open, k) // somebody's, perhaps ours
		}
	}
	if len(open) == 0 {
		return sure, nil
	}
	none, found, err := describe(ctx, leader, open, id)
	if err != nil {
		d.blind.Do(func() {
			d.l.log.Warn("cannot see whether the destination hides records of this link from readers: grant it read on its topics there", "topic", open[0].topic, "error", err)
		})
	}
	return append(sure, none...), found
}

// listAt are end offsets by their leader: isolation 0 of all, 1 of what is
// decided (KIP-98). Those that it does not answer for are left out.
func listAt(ctx context.Context, leader *kgo.Broker, of []destKey, isolation int8) (map[destKey]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	for topic, nums := range byTopic(slices.Values(of)) {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, num := range nums {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = num, -1
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	got, err := leader.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	at := map[destKey]int64{}
	for _, t := range got.(*kmsg.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 {
				at[destKey{t.Topic, p.Partition}] = p.Offset
			}
		}
	}
	return at, nil
}

// describe asks who has transactions open (KIP-664): the producer has one in
// found, from an offset on, and none in none. The error is that the destination
// does not say, and will not; that counts as none.
func describe(ctx context.Context, leader *kgo.Broker, of []destKey, id int64) (none []destKey, found map[destKey]int64, err error) {
	req := kmsg.NewPtrDescribeProducersRequest()
	for topic, nums := range byTopic(slices.Values(of)) {
		t := kmsg.NewDescribeProducersRequestTopic()
		t.Topic, t.Partitions = topic, nums
		req.Topics = append(req.Topics, t)
	}
	got, err := leader.Request(ctx, req)
	if err != nil {
		if kgo.IsRetryableBrokerErr(err) || ctx.Err() != nil {
			return nil, nil, nil
		}
		return of, nil, err // a Kafka before 2.8
	}
	found = map[destKey]int64{}
	for _, t := range got.(*kmsg.DescribeProducersResponse).Topics {
		for _, p := range t.Partitions {
			k := destKey{t.Topic, p.Partition}
			switch refused := kerr.ErrorForCode(p.ErrorCode); {
			case errors.Is(refused, kerr.TopicAuthorizationFailed):
				none, err = append(none, k), refused
			case refused != nil: // in doubt
			default:
				if at := startOf(p.ActiveProducers, id); at >= 0 {
					found[k] = at
				} else {
					none = append(none, k)
				}
			}
		}
	}
	return none, found, err
}

// startOf is the offset from which on a producer's transaction is open, -1 if
// none is.
func startOf(all []kmsg.DescribeProducersResponseTopicPartitionActiveProducer, id int64) int64 {
	for _, p := range all {
		if p.ProducerID == id {
			return p.CurrentTxnStartOffset
		}
	}
	return -1
}
