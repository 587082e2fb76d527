package replicator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/replicator/rule"
	"github.com/waysideos/wayside/services/site"
)

// lane reads the topics of one rule with a client of its own, so that a
// topic may be read by several rules, each from a position of its own.
type lane struct {
	name  string // of the rule; "" are the topics carried as they are
	rules rules
	rule  *rule.Rule // what happens to records
	rank  int        // lanes of a lower one go first
	src   *kgo.Client

	whole         *batches // nil where records are carried one by one
	newest, first *lane    // of a rule with newest_first: each knows the other

	in    chan kgo.Fetches // one lot ahead of the queues
	wake  chan<- struct{}
	bytes int // waiting in the queues of its partitions
	ahead int // when nothing more is taken from in

	stop context.CancelFunc // of the reader, nil while none runs
	done sync.WaitGroup
}

// ranks of the profile's priorities.
var ranks = map[string]int{site.High: 0, "": 2, site.Normal: 2, site.Low: 4}

// lanesOf makes the lanes of a link, without their clients.
func lanesOf(lc site.Link, siteName string) ([]*lane, error) {
	var all []*lane
	if len(lc.Topics) > 0 {
		all = append(all, &lane{rules: rules{topics: lc.Topics, to: lc.Prefix + topicWord}, rule: &rule.Rule{}, rank: ranks[""]})
	}
	for _, r := range lc.Rules {
		made, err := rule.New(r)
		if err != nil {
			return nil, err
		}
		all = append(all, &lane{
			name:  r.Name,
			rules: rules{topics: r.Topics, to: strings.ReplaceAll(cmp.Or(r.To, lc.Prefix+topicWord), siteWord, siteName)},
			rule:  made, rank: ranks[r.Priority],
		})
	}
	for _, n := range all {
		n.rules.hidden = deadLetters(lc)
	}
	return all, nil
}

// openLanes makes the lanes and their clients.
func (l *link) openLanes() error {
	wait := nearFetch
	size := int64(fetchBytes)
	var hooks []kgo.Opt
	if l.down {
		wait = farFetch
		hooks = []kgo.Opt{l.farHooks()}
		if rate := l.budget.Rate(time.Now()); rate > 0 {
			size = min(size, max(lotMin, rate*int64(lotTime/time.Second)))
		}
	}
	lanes, err := lanesOf(l.cfg, l.site)
	if err != nil {
		return err
	}
	for _, n := range slices.Clone(lanes) {
		if n.rule.Newest() > 0 {
			lanes = append(lanes, n.newestLane())
		}
	}
	size = max(size/int64(len(lanes)), lotMin)
	for _, n := range lanes {
		n.ahead = aheadBytes / len(lanes)
		src, err := kafka.NewClient(l.from(), append(hooks,
			kgo.ConsumeResetOffset(kgo.NoResetOffset()), // a gap is for us to see and tell
			kgo.FetchMaxBytes(int32(size)), kgo.FetchMaxPartitionBytes(int32(min(size, fetchMax))), kgo.MaxConcurrentFetches(1),
			kgo.FetchMaxWait(wait),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.KeepControlRecords(), // the ends of transactions are not carried, and are behind us all the same
		)...)
		if err != nil {
			return err
		}
		n.src, n.in, n.wake = src, make(chan kgo.Fetches, 1), l.wake
		if l.verbatim(n) {
			n.whole = &batches{cl: src, size: int32(size), at: map[string]map[int32]int64{}, ids: map[string]kadm.TopicID{}, open: kgo.DefaultDecompressor()}
		}
		l.lanes = append(l.lanes, n)
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
		n.poll(ctx, func() kgo.Fetches { return n.src.PollRecords(ctx, lotRecords) })
	})
	if n.whole != nil && len(n.whole.at) > 0 {
		n.done.Go(func() {
			n.poll(ctx, func() kgo.Fetches { return n.whole.poll(ctx) })
		})
	}
}

func (n *lane) poll(ctx context.Context, fetch func() kgo.Fetches) {
	for ctx.Err() == nil {
		lot := fetch()
		if lot.Empty() && lot.Err() == nil {
			continue
		}
		n.in <- lot
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
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
		for n.bytes < n.ahead {
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
		if p == nil || !p.active || len(f.Records) == 0 {
			return // fetched before it was stopped
		}
		if len(p.queue) == 0 {
			l.mu.Lock()
			p.waits = f.Records[0].Timestamp
			l.mu.Unlock()
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
