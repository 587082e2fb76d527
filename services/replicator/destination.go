package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// destTopic is a topic at the destination, or why it cannot be used.
type destTopic struct {
	err error
	end map[int32]int64 // end offsets by partition
}

// ensure makes the destination's topics, with at least as many partitions as
// the source has; grown is that one has more than it had. An error means that
// the destination did not answer.
func (l *link) ensure(ctx context.Context, adm *kadm.Client, due []*partition) (all map[string]destTopic, grown bool, err error) {
	from := map[string]string{} // destination name to source
	for _, p := range due {
		from[p.to] = p.topic
	}
	want := map[string]int{} // partitions by destination name
	for _, p := range l.parts {
		if _, ok := from[p.to]; ok {
			want[p.to] = max(want[p.to], int(p.num)+1)
		}
	}
	dests := sortedKeys(want)
	var unseen []string
	for _, topic := range from {
		if _, ok := l.configs[topic]; !ok {
			unseen = append(unseen, topic)
		}
	}
	if len(unseen) > 0 {
		configs, err := l.sourceConfigs(ctx, unseen)
		if err != nil {
			l.srcFailed(err)
			configs = map[string]topicConfig{}
		}
		maps.Copy(l.configs, configs)
	}
	have, err := adm.ListTopicsWithInternal(ctx, dests...)
	if err != nil {
		return nil, false, fmt.Errorf("list topics of the destination: %w", err)
	}
	all = map[string]destTopic{}
	for name, n := range want {
		t, more := l.makeTopic(ctx, adm, name, n, have[name], l.configFor(from[name]))
		all[name], grown = t, grown || more
	}
	ends, err := adm.ListEndOffsets(ctx, dests...)
	var some *kadm.ShardErrors // a partition has no leader: the others need not wait for it
	if err != nil && !(errors.As(err, &some) && !some.AllFailed) {
		return nil, false, fmt.Errorf("list offsets of the destination: %w", err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			all[o.Topic].end[o.Partition] = o.Offset
		}
	})
	return all, grown, nil
}

func (l *link) makeTopic(ctx context.Context, adm *kadm.Client, name string, n int, have kadm.TopicDetail, config map[string]*string) (t destTopic, grown bool) {
	t = destTopic{end: map[int32]int64{}}
	switch known := len(have.Partitions); {
	case have.Err != nil && !errors.Is(have.Err, kerr.UnknownTopicOrPartition):
		t.err = fmt.Errorf("look up topic %s at the destination: %v", name, have.Err)
	case known == 0:
		// -1: the destination's own replication factor (KIP-464, Kafka 2.4)
		_, err := adm.CreateTopic(ctx, int32(n), -1, config, name)
		if err == nil {
			for num := range int32(n) {
				t.end[num] = 0 // it takes the destination a moment to say so
			}
		} else if !errors.Is(err, kerr.TopicAlreadyExists) {
			t.err = fmt.Errorf("create topic %s at the destination: %v", name, err)
		}
	case known < n:
		got, err := adm.UpdatePartitions(ctx, n, name)
		if err == nil {
			err = got.Error()
		}
		if err != nil {
			t.err = fmt.Errorf("grow topic %s at the destination to %d partitions: %v", name, n, err)
		}
		grown = err == nil
	}
	return t, grown
}
