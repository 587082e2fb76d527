package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/site"
)

// dead is a record that cannot be carried, and why.
type dead struct {
	r   *kgo.Record
	err error
}

// deadLetters is the topic for them. It is on the box, which is there: the
// record was there before.
func deadLetters(lc site.Link) string { return cmp.Or(lc.DeadLetter, "dead-letters."+lc.Name) }

// forGood is true for a record that will never be taken.
func forGood(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

// refuse looks for the record of a lot that the destination refuses: lots of
// the partition get smaller until only one record is left. That one is put
// aside.
func (l *link) refuse(ctx context.Context, p *partition) {
	if p.whole {
		p.opened = true
		l.log.Info("batches are refused; carried as records", "topic", p.topic, "partition", p.num, "error", p.lot.err)
		l.stop(p, fmt.Errorf("%s/%d: a batch before offset %d is refused: %w", p.topic, p.num, p.lot.next, p.lot.err))
		return
	}
	if p.lane.rule.Windowed() { // no record of the queue is at fault
		l.stop(p, fmt.Errorf("%s/%d: a summary is refused: %w", p.topic, p.num, p.lot.err))
		return
	}
	if p.lot.taken > 1 {
		p.limit = max(1, p.lot.taken/2)
		return
	}
	r := p.queue[0]
	if err := l.bury(ctx, p, []dead{{r, p.lot.err}}); err != nil {
		l.stop(p, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.next, p.epoch, p.seen = r.Offset+1, r.LeaderEpoch, r.Offset+1
	p.done()
}

// grow ends the search, step by step.
func (p *partition) grow() {
	if p.limit *= 2; p.limit > 2*lotRecords {
		p.limit = 0
	}
}

// bury writes records to the dead letters, and returns when they are there.
// One that is tried again after a crash may be there twice: its position is
// in its headers.
func (l *link) bury(ctx context.Context, p *partition, all []dead) error {
	topic := deadLetters(l.cfg)
	big := strconv.Itoa(maxRecord)
	cl, err := l.box(ctx, topic, map[string]string{"max.message.bytes": big})
	if err != nil {
		return fmt.Errorf("open the dead letters: %w", err)
	}
	var rs []*kgo.Record
	for _, d := range all {
		h := func(name, value string) kgo.RecordHeader {
			return kgo.RecordHeader{Key: "wayside-dead-" + name, Value: []byte(value)}
		}
		rs = append(rs, &kgo.Record{Topic: topic, Key: d.r.Key, Value: d.r.Value, Timestamp: d.r.Timestamp, Headers: append(
			append([]kgo.RecordHeader(nil), d.r.Headers...),
			h("link", l.name), h("rule", p.lane.name), h("topic", p.topic), h("partition", strconv.Itoa(int(p.num))),
			h("offset", strconv.FormatInt(d.r.Offset, 10)), h("to", p.to), h("error", d.err.Error()),
			h("time", time.Now().UTC().Format(time.RFC3339)),
		)})
		l.log.Warn("record is put aside", "topic", p.topic, "partition", p.num, "offset", d.r.Offset, "dead letters", topic, "error", d.err)
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return fmt.Errorf("write to dead letters %s: %w", topic, err)
	}
	l.metrics.dead.Add(float64(len(all)))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes["dead"] = fmt.Sprintf("%s/%d: offset %d is in topic %s of the box: %v", p.topic, p.num, all[len(all)-1].r.Offset, topic, all[len(all)-1].err)
	return nil
}

// boxOnly is a client of the box's broker for records of the link's own.
func (l *link) boxOnly() (*kgo.Client, error) {
	if l.boxClient == nil {
		cl, err := kafka.NewClient(l.near, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchMaxBytes(maxRecord))
		if err != nil {
			return nil, err
		}
		l.boxClient = cl
	}
	return l.boxClient, nil
}

// box is boxOnly after it has made a topic of one partition.
func (l *link) box(ctx context.Context, topic string, config map[string]string) (*kgo.Client, error) {
	cl, err := l.boxOnly()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if err := kafka.EnsureTopic(ctx, cl, topic, config); err != nil {
		return nil, fmt.Errorf("create topic %s on the box: %w", topic, err)
	}
	return cl, nil
}

// maxRecord is the largest batch that the box's broker takes, 16 MiB.
const maxRecord = 16 << 20
