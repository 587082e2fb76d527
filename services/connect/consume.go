package connect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// What a sink holds of what it has fetched and not written yet.
const (
	consumeBytes   = 1 << 20
	consumeRecords = 1000
)

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
			b.Trouble(fmt.Errorf("read %s, partition %d: %w", topic, partition, err))
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
	return kafka.NewClient(kafka.Config{Bootstrap: b.cfg.Broker, ClientID: "wayside-connect-" + b.name, Log: b.log}, opts...)
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
