package connect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/unpack"
)

// What a sink holds of what it has fetched and not written yet: batches of so
// many bytes as they lie in the log, which may be compressed, and one at least.
const (
	consumeBytes   = 128 << 10
	consumeRecords = 1000
)

// unpacked is what the sinks of a service hold of what they have unpacked.
// Producers of 1 MB of compressed data that is worth it come close to Batch.
var unpacked = unpack.Limits{Batch: 16 << 20, All: 48 << 20, Each: 16 << 20, Own: 1 << 20}

// consumerGroup is where the box's broker keeps how far a sink has come.
func consumerGroup(connector string) string { return "wayside-connect." + connector }

// Consume gives a sink the records of topics, by name or with a trailing *,
// in order within a partition, from where it was the last time and at first
// from the start. Of transactions it sees only what was committed. When take
// returns nil its records are done with; after an error, which Consume
// returns, they come again: at least once.
func (b *Box) Consume(ctx context.Context, topics []string, take func(context.Context, []*kgo.Record) error) error {
	if len(b.cfg.Broker) == 0 {
		return errors.New("consume: there is no broker to read from")
	}
	cl, err := b.consumer(topics)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	for {
		fetched := cl.PollRecords(ctx, consumeRecords)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fetched.EachError(func(topic string, partition int32, err error) {
			if err := b.unread(cl, err); err != nil {
				b.Trouble(fmt.Errorf("read %s, partition %d: %w", topic, partition, err))
			}
		})
		if rs := fetched.Records(); len(rs) > 0 {
			if err := take(ctx, rs); err != nil {
				return err
			}
			if err := cl.CommitRecords(ctx, rs...); err != nil {
				return fmt.Errorf("commit position: %w", err)
			}
		}
		cl.AllowRebalance()
	}
}

func (b *Box) consumer(topics []string) (*kgo.Client, error) {
	// A member with a name of its own takes its place again at once: the group
	// would wait 45 s for one that a power cut has ended.
	opts := append(reading(), kgo.ConsumerGroup(consumerGroup(b.name)), kgo.InstanceID(b.name), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll())
	if patterns, any := topicPatterns(topics); any {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(patterns...), kgo.ConsumeExcludeTopics(`^__`, `^wayside-`))
	} else {
		opts = append(opts, kgo.ConsumeTopics(topics...))
	}
	return b.Client(opts...)
}

// topicPatterns are topics as regular expressions; any says that they have to be.
func topicPatterns(topics []string) (patterns []string, any bool) {
	for _, t := range topics {
		prefix, star := strings.CutSuffix(t, "*")
		p := "^" + regexp.QuoteMeta(prefix)
		if !star {
			p += "$"
		}
		any = any || star
		patterns = append(patterns, p)
	}
	return patterns, any
}

// unread deals with the error of a fetch; it returns one that is not about a
// batch's size.
func (b *Box) unread(cl *kgo.Client, err error) error {
	if errors.Is(err, unpack.ErrNoRoom) || b.passOver(cl, err) > 0 {
		return nil
	}
	return err
}

// passOver goes on behind a batch that is too large to be unpacked: it is lost
// to the sink, which a dead letter says. It returns the offset behind it, 0
// where err is another.
func (b *Box) passOver(cl *kgo.Client, err error) (next int64) {
	large := unpack.PassOver(cl, err)
	if large == nil {
		return 0
	}
	n := large.NextOffset - large.Offset
	b.log.Warn("a batch is too large to be read", "topic", large.Topic, "partition", large.Partition, "offset", large.Offset, "records", n)
	b.state.lost(n)
	b.Dead(fmt.Sprintf("the batch of %d records is larger than %d bytes when it is unpacked, or takes more than %d in memory", n, unpacked.Batch, unpacked.All), nil,
		fmt.Sprintf("%s/%d/%d", large.Topic, large.Partition, large.Offset))
	return large.NextOffset
}
