package connect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/unpack"
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
	f := &follower{box: b, ask: kadm.NewClient(ask), from: from, next: map[string]map[int32]int64{}}
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
	next   map[string]map[int32]int64 // offset to come, by topic and partition
	cl     *kgo.Client                // nil before there is a partition
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
			if _, seen := f.next[t.Topic][p.Partition]; seen {
				continue
			}
			if fresh[t.Topic] == nil {
				fresh[t.Topic], names = map[int32]kgo.Offset{}, append(names, t.Topic)
			}
			fresh[t.Topic][p.Partition] = kgo.NewOffset()
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
		if f.next[topic] == nil {
			f.next[topic] = map[int32]int64{}
		}
		for p := range partitions {
			start, _ := starts.Lookup(topic, p)
			at := f.begin(topic, p, start.Offset)
			f.next[topic][p], partitions[p] = at, kgo.NewOffset().At(at)
		}
	}
	return f.add(fresh)
}

// begin is where reading a partition begins that starts there.
func (f *follower) begin(topic string, p int32, start int64) int64 {
	next, known := f.from(topic, p)
	if !known {
		return start
	}
	f.missed(topic, p, start-next)
	return max(start, next)
}

// missed tells of so many records, if any, that were deleted unread.
func (f *follower) missed(topic string, p int32, n int64) {
	if n > 0 {
		f.box.log.Warn("records were deleted before they were read", "topic", topic, "partition", p, "records", n)
		f.box.state.lost(n)
	}
}

func (f *follower) add(fresh map[string]map[int32]kgo.Offset) error {
	if f.cl != nil {
		f.cl.AddConsumePartitions(fresh)
		return nil
	}
	var err error
	f.cl, err = f.box.Client(append(reading(), kgo.ConsumePartitions(fresh), kgo.KeepControlRecords())...)
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
		if next := f.box.passOver(f.cl, err); next > 0 {
			f.next[topic][partition] = next
		} else if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, unpack.ErrNoRoom) {
			failed = fmt.Errorf("read %s, partition %d: %w", topic, partition, err)
		}
	})
	var rs []*kgo.Record
	fetched.EachPartition(func(p kgo.FetchTopicPartition) { rs = f.take(rs, p) })
	return rs, failed
}

// take adds a partition's records. Where the client's offset was deleted
// meanwhile it has gone on at the start of what is left, without a word.
func (f *follower) take(rs []*kgo.Record, p kgo.FetchTopicPartition) []*kgo.Record {
	if len(p.Records) == 0 {
		return rs
	}
	f.missed(p.Topic, p.Partition, p.LogStartOffset-f.next[p.Topic][p.Partition])
	for _, r := range p.Records {
		f.next[p.Topic][p.Partition] = r.Offset + 1
		if !r.Attrs.IsControl() { // they count, as offsets
			rs = append(rs, r)
		}
	}
	return rs
}

// reading is how sinks read.
func reading() []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(consumeBytes), kgo.FetchMaxPartitionBytes(consumeBytes), kgo.MaxConcurrentFetches(1),
	}
}
