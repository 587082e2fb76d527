package replicator

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// carry takes one lot from source to destination.
func (l *link) carry(ctx context.Context) {
	poll, cancel := context.WithTimeout(ctx, pollWait)
	if l.held() {
		<-poll.Done()
		cancel()
		return
	}
	lot := l.src.PollRecords(poll, lotRecords)
	cancel()
	unreadable := map[string]error{}
	lot.EachError(func(topic string, num int32, err error) {
		unreadable[topic] = fmt.Errorf("read %s/%d from the box's broker: %v", topic, num, err)
	})
	for topic, err := range unreadable {
		if topic != "" && ctx.Err() == nil { // without a topic: the poll's own time-out
			l.stopTopic(topic, err)
		}
	}
	var sent []*partition
	lot.EachPartition(func(f kgo.FetchTopicPartition) {
		p := l.parts[key{f.Topic, f.Partition}]
		if p == nil || !p.active || len(f.Records) == 0 {
			return // fetched before it was stopped
		}
		sent = append(sent, p)
		for _, r := range f.Records {
			l.produce(p, r)
		}
	})
	if len(sent) == 0 {
		return
	}
	l.flush(ctx)
	if ctx.Err() == nil {
		l.settle(sent)
	}
}

// produce sends one record, unchanged but for the topic's name.
func (l *link) produce(p *partition, r *kgo.Record) {
	if r.Offset < p.next {
		return // fetched again by the client; already acknowledged
	}
	offset, size := r.Offset, int64(len(r.Key)+len(r.Value))
	out := &kgo.Record{
		Topic: l.rules.destination(r.Topic), Partition: r.Partition,
		Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp,
	}
	l.dst.Produce(context.Background(), out, func(out *kgo.Record, err error) {
		l.answered(p, offset, size, out.Offset, err)
	})
}

// answered is called by franz-go in the order of a partition's records.
func (l *link) answered(p *partition, offset, size, dest int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && p.err == nil:
		p.err = err
	case err != nil:
	case p.err != nil: // behind a refused record; not seen in franz-go
		p.again++
	default:
		p.next, p.dest = offset+1, dest+1
		if p.again > 0 {
			p.again--
			l.countResent(1)
		}
		f := l.flows[p.topic]
		if f == nil {
			f = &flow{}
			l.flows[p.topic] = f
		}
		f.records++
		f.bytes += size
		l.metrics.acked(p.topic, size)
		l.state.ok()
		if l.unsaved++; l.unsaved == 1 {
			l.unsavedAt = time.Now()
		}
	}
}

// flush waits until the whole lot is answered, for ever while ctx lasts and a
// moment longer: what is on its way then would come again after a restart.
func (l *link) flush(ctx context.Context) {
	wait, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if up, _, _, _ := l.state.now(); !up {
			cancel()
		}
		time.AfterFunc(l.pace.grace, cancel)
	})
	defer stop()
	l.state.waiting(true)
	_ = l.dst.Flush(wait)
	l.state.waiting(false)
}

// settle stops the partitions of which a record was refused.
func (l *link) settle(sent []*partition) {
	for _, p := range sent {
		if p.err == nil {
			p.fails = 0
			continue
		}
		l.replaceDst = true
		l.stop(p, fmt.Errorf("%s/%d is stopped before offset %d: %v", p.topic, p.num, p.next, p.err))
	}
}

// stop ends the fetching of a partition until its next try. Everything the
// client has fetched of it is forgotten, so that it goes on at p.next.
func (l *link) stop(p *partition, err error) {
	l.src.RemoveConsumePartitions(map[string][]int32{p.topic: {p.num}})
	l.mu.Lock()
	defer l.mu.Unlock()
	p.active, p.err = false, err
	p.fresh = true // what was refused may be there: an answer got lost, its repetition was refused
	p.fails++
	p.retry = time.Now().Add(l.pace.backoff(p.fails))
	l.metrics.stops.Inc()
	if p.fails == 1 {
		l.log.Warn("partition is stopped and will be tried again", "topic", p.topic, "partition", p.num, "offset", p.next, "error", err)
	}
}

// stopTopic stops all partitions of a topic that cannot be read and makes the
// client forget it: franz-go never accepts the new id of a topic that was
// deleted and made again.
func (l *link) stopTopic(topic string, err error) {
	for _, p := range l.parts {
		if p.topic == topic && p.active {
			l.stop(p, err)
		}
	}
	l.src.PurgeTopicsFromConsuming(topic)
}

// onDataLoss is franz-go's word for a destination that has lost what it had
// acknowledged: the producer goes on under a new epoch, and the lot that was
// on its way may be there twice.
func (l *link) onDataLoss(topic string, num int32) {
	l.log.Warn("the destination lost acknowledged records", "topic", topic, "partition", num)
	l.note(topic, fmt.Sprintf("%s/%d: the destination lost acknowledged records", topic, num))
}

func (l *link) note(topic, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes[topic] = text
}

// countResent is called under l.mu.
func (l *link) countResent(n int64) {
	l.resent += n
	l.metrics.resent.Add(float64(n))
}
