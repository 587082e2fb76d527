package replicator

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// lane reads the topics of one rule with a client of its own, so that a
// topic may be read by several rules, each from a position of its own.
type lane struct {
	name  string // of the rule; "" are the topics carried as they are
	rules rules
	src   *kgo.Client

	in    chan kgo.Fetches // one lot ahead of the queues
	wake  chan<- struct{}
	bytes int // waiting in the queues of its partitions

	stop context.CancelFunc // of the reader, nil while none runs
	done sync.WaitGroup
}

// openLanes makes a lane for topics carried as they are.
func (l *link) openLanes() error {
	wait := nearFetch
	var hooks []kgo.Opt
	if l.down {
		wait = farFetch
		hooks = []kgo.Opt{kgo.WithHooks(l.state)}
	}
	for _, lane := range []*lane{{rules: rules{topics: l.cfg.Topics, prefix: l.cfg.Prefix}}} {
		src, err := kafka.NewClient(l.from(), append(hooks,
			kgo.ConsumeResetOffset(kgo.NoResetOffset()), // a gap is for us to see and tell
			kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchMax), kgo.MaxConcurrentFetches(1),
			kgo.FetchMaxWait(wait),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		)...)
		if err != nil {
			return err
		}
		lane.src, lane.in, lane.wake = src, make(chan kgo.Fetches, 1), l.wake
		l.lanes = append(l.lanes, lane)
	}
	return nil
}

// read starts the reader, which fetches until halt.
func (n *lane) read(ctx context.Context) {
	if n.stop != nil {
		return
	}
	ctx, n.stop = context.WithCancel(ctx)
	n.done.Go(func() {
		for ctx.Err() == nil {
			lot := n.src.PollRecords(ctx, lotRecords)
			if lot.Empty() {
				continue
			}
			n.in <- lot
			select {
			case n.wake <- struct{}{}:
			default:
			}
		}
	})
}

// halt ends the reader and returns what it had fetched. Between halt and
// read the assignment may change without a record of the old one coming
// after.
func (n *lane) halt() (left []kgo.Fetches) {
	if n.stop == nil {
		return nil
	}
	n.stop()
	n.stop = nil
	ended := make(chan struct{})
	go func() { n.done.Wait(); close(ended) }()
	for {
		select {
		case lot := <-n.in:
			left = append(left, lot)
		case <-ended:
			select {
			case lot := <-n.in:
				left = append(left, lot)
			default:
			}
			return left
		}
	}
}

func (n *lane) close() {
	n.halt()
	n.src.Close()
}

// fetch moves what readers have into the queues.
func (l *link) fetch() {
	for _, n := range l.lanes {
		for n.bytes < aheadBytes {
			select {
			case lot := <-n.in:
				l.queue(n, lot)
				continue
			default:
			}
			break
		}
	}
}

func (l *link) queue(n *lane, lot kgo.Fetches) {
	unreadable := map[string]error{}
	lot.EachError(func(topic string, num int32, err error) {
		if topic != "" { // without a topic: the poll was ended
			unreadable[topic] = fmt.Errorf("read %s/%d: %v", topic, num, err)
		}
	})
	for topic, err := range unreadable {
		l.stopTopic(n, topic, err)
	}
	lot.EachPartition(func(f kgo.FetchTopicPartition) {
		p := l.parts[key{n, f.Topic, f.Partition}]
		if p == nil || !p.active {
			return // fetched before it was stopped
		}
		for _, r := range f.Records {
			if r.Offset >= p.read {
				p.read = r.Offset + 1
				p.queue = append(p.queue, r)
				n.bytes += sizeOf(r)
			}
		}
	})
}

// sizeOf is what a record counts for in lots and queues, in bytes.
func sizeOf(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value) + 16
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
