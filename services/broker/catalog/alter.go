package catalog

import (
	"fmt"
	"maps"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// resolve makes a Topic of what the state says and what is in force.
func (c *Catalog) resolve(mt meta.Topic, parts []Partition) *Topic {
	t := &Topic{Topic: mt, Partitions: parts, broker: c.broker}
	t.settings, t.givesWay = settingsOf(t), t.Value("wayside.full") == "drop-read"
	return t
}

// number is a numeric setting; its value has been checked when it was set.
func (t *Topic) number(name string) int64 {
	n, _ := strconv.ParseInt(t.Value(name), 10, 64)
	return n
}

func settingsOf(t *Topic) store.Settings {
	ratio, _ := strconv.ParseFloat(t.Value("min.cleanable.dirty.ratio"), 64)
	s := store.Settings{
		SegmentBytes:    t.number("segment.bytes"),
		SegmentMs:       t.number("segment.ms"),
		LogAppendTime:   t.Value("message.timestamp.type") == "LogAppendTime",
		BeforeMaxMs:     max(1, t.number("message.timestamp.before.max.ms")), // 0 would be no bound
		AfterMaxMs:      max(1, t.number("message.timestamp.after.max.ms")),
		Compression:     t.Value("compression.type"),
		MaxMessageBytes: t.number("max.message.bytes"),
		WriteIsEnough:   t.Value("wayside.durability") == "write",
		Compaction: store.Compaction{
			DeleteRetentionMs: t.number("delete.retention.ms"),
			MinLagMs:          t.number("min.compaction.lag.ms"),
			MaxLagMs:          t.number("max.compaction.lag.ms"),
			MinDirtyRatio:     ratio,
		},
	}
	for _, policy := range SplitList(t.Value("cleanup.policy")) {
		s.Compaction.Compact = s.Compaction.Compact || policy == "compact"
		s.Compaction.Delete = s.Compaction.Delete || policy == "delete"
	}
	return s
}

// Retention is what the topic's configuration lets its logs forget.
func (t *Topic) Retention() store.Retention {
	return store.Retention{Bytes: t.number("retention.bytes"), Ms: t.number("retention.ms")}
}

// Alter replaces the configuration that a topic has of its own. It is durable
// when it takes effect.
func (c *Catalog) Alter(name string, config map[string]string) error {
	return c.Edit(name, false, func(m map[string]string) error {
		clear(m)
		maps.Copy(m, config)
		return nil
	})
}

// Edit alters a topic's own configuration from what it is, while nobody else
// does; with dryRun it only says what would be wrong.
func (c *Catalog) Edit(name string, dryRun bool, edit func(map[string]string) error) error {
	return c.EditAll([]Edit{{name, edit}}, dryRun)[0]
}

// Edit is what to alter of a topic.
type Edit struct {
	Topic string
	Edit  func(config map[string]string) error
}

// EditAll is Edit for several topics, each for itself: they share the syncs
// of the disk.
func (c *Catalog) EditAll(edits []Edit, dryRun bool) []error {
	c.change.Lock()
	defer c.change.Unlock()
	errs := make([]error, len(edits))
	seen := map[string]bool{}
	var g errgroup.Group
	g.SetLimit(4 * changeAtOnce)
	for i, e := range edits {
		old := c.Get(e.Topic)
		if old == nil {
			errs[i] = fmt.Errorf("%w: %s", ErrUnknown, e.Topic)
			continue
		}
		if seen[e.Topic] {
			errs[i] = fmt.Errorf("%w: topic %s is altered twice", ErrConfig, e.Topic)
			continue
		}
		seen[e.Topic] = true
		config, err := edited(old.Config, e.Edit, CheckConfig)
		if errs[i] = err; err != nil || dryRun || maps.Equal(config, old.Config) {
			continue
		}
		g.Go(func() error {
			errs[i] = c.alter(old, config)
			return nil
		})
	}
	g.Wait()
	return errs
}

func (c *Catalog) alter(old *Topic, config map[string]string) error {
	mt := old.Topic
	mt.Config = config
	if err := c.meta.PutTopic(mt); err != nil {
		return fmt.Errorf("alter topic %s: %w", mt.Name, err)
	}
	c.reconfigure(c.resolve(mt, old.Partitions))
	c.keep(mt)
	return nil
}

func edited(old map[string]string, edit func(map[string]string) error, check func(map[string]string) error) (map[string]string, error) {
	config := maps.Clone(old)
	if config == nil {
		config = map[string]string{}
	}
	if err := edit(config); err != nil {
		return nil, err
	}
	return config, check(config)
}

// reconfigure puts an altered topic in the place of the old one.
func (c *Catalog) reconfigure(t *Topic) {
	for _, p := range t.Partitions {
		if p.Log != nil {
			p.Log.Configure(t.settings)
		}
	}
	c.put(t)
}
