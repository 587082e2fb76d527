package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// followed are the topic configurations that a destination topic takes over
// from its source: what records mean, and what the topic must take. How long
// records are kept is each cluster's own matter: a box keeps days, a centre
// years. message.timestamp.type is not among them: the timestamps are those
// of the source.
var followed = []string{
	"cleanup.policy", "compression.type", "delete.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
	"min.cleanable.dirty.ratio", "min.compaction.lag.ms",
}

// configEvery is how often the source's configurations are looked at, at
// least.
const configEvery = time.Minute

type topicConfig map[string]string

// sourceConfigs are the followed configurations that were set for topics of
// the source, by topic.
func (l *link) sourceConfigs(ctx context.Context, topics []string) (map[string]topicConfig, error) {
	got, err := l.srcAdm.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("read topic configurations of the source: %w", err)
	}
	all := map[string]topicConfig{}
	for _, r := range got {
		if r.Err != nil {
			continue // the source may not let us see it; the topic is made without
		}
		set := topicConfig{}
		for _, c := range r.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig && c.Value != nil && slices.Contains(followed, c.Key) {
				set[c.Key] = *c.Value
			}
		}
		all[r.Name] = set
	}
	return all, nil
}

// configFor is what a topic at the destination is made with.
func (l *link) configFor(from string) map[string]*string {
	out := map[string]*string{}
	for _, set := range []topicConfig{l.configs[from], l.cfg.TopicConfig} {
		for k, v := range set {
			out[k] = &v
		}
	}
	return out
}

// follow has changes of the source's configurations made at the destination.
// What was the same at the last look is left alone there, so that what the
// centre's people set stays.
func (l *link) follow(ctx context.Context) {
	if time.Since(l.followed) < min(configEvery, 10*l.pace.discover) {
		return
	}
	l.followed = time.Now()
	to := map[string][]string{} // names at the destination by those at the source
	for _, p := range l.parts {
		if p.lane.rule.Plain() && !slices.Contains(to[p.topic], p.to) {
			to[p.topic] = append(to[p.topic], p.to)
		}
	}
	if len(to) == 0 {
		return
	}
	now, err := l.sourceConfigs(ctx, sortedKeys(to))
	if err != nil {
		return // the loop meets the same error and tells it
	}
	for topic, set := range now {
		before, known := l.configs[topic]
		if known && !maps.Equal(before, set) {
			if err := l.alter(ctx, changes(before, set), to[topic]...); err != nil {
				l.log.Warn("topic configuration does not follow", "topics", to[topic], "error", err)
				continue // and tried again
			}
		}
		l.configs[topic] = set
	}
}

func changes(before, now topicConfig) []kadm.AlterConfig {
	var all []kadm.AlterConfig
	for k := range before {
		if _, ok := now[k]; !ok {
			all = append(all, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
		}
	}
	for k, v := range now {
		if before[k] != v {
			all = append(all, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v})
		}
	}
	return all
}

func (l *link) alter(ctx context.Context, changes []kadm.AlterConfig, topics ...string) error {
	got, err := kadm.NewClient(l.dst).AlterTopicConfigs(ctx, changes, topics...)
	if err != nil {
		return err
	}
	for _, r := range got {
		if r.Err != nil {
			return fmt.Errorf("alter configuration of %s: %w %s", r.Name, r.Err, r.ErrMessage)
		}
	}
	l.log.Info("topic configuration followed the source", "topics", topics)
	return nil
}
