package connect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Of a sink that keeps its own position.
const (
	followTick    = 500 * time.Millisecond // take is called as often, with or without records
	discoverEvery = time.Second
)

// Followed says where a sink goes on in a partition, and false where it never
// was: at the start.
type Followed func(topic string, partition int32) (next int64, known bool)

// Follow is Consume for a sink that keeps its own position, such as by
// Commit: it is asked once for each partition, and take returns nothing but
// how it went. take gets an empty slice when nothing came for a moment. The
// sink's own dead letters are left out. What was deleted before it was read is
// counted and told.
func (b *Box) Follow(ctx context.Context, topics []string, from Followed, take func(context.Context, []*kgo.Record) error) error {
	if len(b.cfg.Broker) == 0 {
		return errors.New("follow: there is no broker to read from")
	}
	ask, err := b.Client()
	if err != nil {
		return err
	}
	defer ask.Close()
	f := &follower{box: b, ask: kadm.NewClient(ask), from: from, seen: map[string]map[int32]bool{}}
	defer f.close()
	patterns, _ := topicPatterns(topics)
	for _, p := range patterns {
		f.topics = append(f.topics, regexp.MustCompile(p))
	}
	var looked time.Time
	for {
		if time.Since(looked) >= discoverEvery {
			if err := f.discover(ctx); err != nil {
				return err
			}
			looked = time.Now()
		}
		rs, err := f.poll(ctx)
		if err == nil {
			err = take(ctx, rs)
		}
		if err != nil {
			return err
		}
	}
}

// follower reads partitions, of which it finds more as they are made.
type follower struct {
	box    *Box
	ask    *kadm.Client
	topics []*regexp.Regexp
	from   Followed
	seen   map[string]map[int32]bool
	cl     *kgo.Client // nil before there is a partition
}

func (f *follower) close() {
	if f.cl != nil {
		f.cl.Close()
	}
}

var ownTopics = regexp.MustCompile(`^(__|wayside-)`)

func (f *follower) wants(topic string) bool {
	if topic == f.box.records.DeadLetter {
		return false
	}
	for _, p := range f.topics {
		// A name in full is meant, a pattern leaves out what is the box's own.
		if p.MatchString(topic) && (p.String() == "^"+regexp.QuoteMeta(topic)+"$" || !ownTopics.MatchString(topic)) {
			return true
		}
	}
	return false
}

// discover adds partitions that are new.
func (f *follower) discover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	all, err := f.ask.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	fresh := map[string]map[int32]kgo.Offset{}
	var names []string
	for _, t := range all.Sorted() {
		if t.Err != nil || !f.wants(t.Topic) {
			continue
		}
		for _, p := range t.Partitions.Sorted() {
			if f.seen[t.Topic][p.Partition] {
				continue
			}
			if fresh[t.Topic] == nil {
				fresh[t.Topic], names = map[int32]kgo.Offset{}, append(names, t.Topic)
			}
			fresh[t.Topic][p.Partition] = kgo.NewOffset().AtStart()
		}
	}
	if len(names) == 0 {
		return nil
	}
	starts, err := f.ask.ListStartOffsets(ctx, names...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("list offsets: %w", err)
	}
	for topic, partitions := range fresh {
		for p := range partitions {
			partitions[p] = f.begin(topic, p, starts)
		}
	}
	return f.add(fresh)
}

// begin is where reading a partition begins.
func (f *follower) begin(topic string, p int32, starts kadm.ListedOffsets) kgo.Offset {
	next, known := f.from(topic, p)
	start, ok := starts.Lookup(topic, p)
	switch {
	case !known:
		return kgo.NewOffset().AtStart()
	case ok && start.Offset > next:
		n := start.Offset - next
		f.box.log.Warn("records were deleted before they were read", "topic", topic, "partition", p, "records", n)
		f.box.state.lost(n)
		return kgo.NewOffset().At(start.Offset)
	}
	return kgo.NewOffset().At(next)
}

func (f *follower) add(fresh map[string]map[int32]kgo.Offset) error {
	for topic, partitions := range fresh {
		if f.seen[topic] == nil {
			f.seen[topic] = map[int32]bool{}
		}
		for p := range partitions {
			f.seen[topic][p] = true
		}
	}
	if f.cl != nil {
		f.cl.AddConsumePartitions(fresh)
		return nil
	}
	var err error
	f.cl, err = f.box.Client(append(reading(), kgo.ConsumePartitions(fresh))...)
	return err
}

// poll returns what came within a moment.
func (f *follower) poll(ctx context.Context) ([]*kgo.Record, error) {
	tick, cancel := context.WithTimeout(ctx, followTick)
	defer cancel()
	if f.cl == nil {
		<-tick.Done()
		return nil, ctx.Err()
	}
	fetched := f.cl.PollRecords(tick, consumeRecords)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var failed error
	fetched.EachError(func(topic string, partition int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) {
			failed = fmt.Errorf("read %s, partition %d: %w", topic, partition, err)
		}
	})
	return fetched.Records(), failed
}

// reading is how sinks read.
func reading() []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(consumeBytes), kgo.FetchMaxPartitionBytes(consumeBytes), kgo.MaxConcurrentFetches(1),
	}
}
