package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/broker/meta"
)

// NodeName is the broker's name among the resources that have a
// configuration; an empty name stands for all brokers.
const NodeName = "1"

// The types of resources that have a configuration, by Kafka's numbers.
const (
	resourceBroker = 4
	resourceGroup  = 32
)

// ownBrokerDefs are the broker's configurations that are no topic's default.
var ownBrokerDefs = []Def{
	{Name: "auto.create.topics.enable", Type: Bool, Default: "true", Doc: "A topic is made when a client first asks for it."},
	{Name: "broker.id", Type: Int, Default: NodeName, ReadOnly: true, Doc: "The number of the one broker."},
	{Name: "default.replication.factor", Type: Int, Default: "1", ReadOnly: true, Doc: "One broker holds the one replica."},
	{Name: "delete.topic.enable", Type: Bool, Default: "true", ReadOnly: true, Doc: "Topics can be deleted."},
	{Name: "follower.replication.throttled.rate", Type: Long, Default: maxLong, max: maxInt64, Doc: "Bytes per second of replicas that copy; none does." + noEffect},
	{Name: "group.consumer.heartbeat.interval.ms", Type: Int, Default: "5000", min: 10, max: 600000,
		Doc: "How often members of the consumer protocol speak; a group's consumer.heartbeat.interval.ms goes before it."},
	{Name: "group.consumer.migration.policy", Type: String, Default: "bidirectional", words: []string{"disabled", "upgrade", "downgrade", "bidirectional"},
		Doc: "Whether a group with members moves to the consumer protocol when a member of that joins (upgrade), and back when the last of them leaves (downgrade)."},
	{Name: "group.consumer.session.timeout.ms", Type: Int, Default: "45000", min: 1000, max: 1800000,
		Doc: "How long they may be silent; a group's consumer.session.timeout.ms goes before it."},
	{Name: "group.share.delivery.count.limit", Type: Int, Default: "5", min: 1, max: 100,
		Doc: "How often a record is delivered to a share group at most; a group's share.delivery.count.limit goes before it."},
	{Name: "group.share.heartbeat.interval.ms", Type: Int, Default: "5000", min: 10, max: 600000,
		Doc: "How often members of share groups speak; a group's share.heartbeat.interval.ms goes before it."},
	{Name: "group.share.max.size", Type: Int, Default: "200", min: 1, max: 1000, Doc: "How many members a share group may have."},
	{Name: "group.share.partition.max.record.locks", Type: Int, Default: "2000", min: 100, max: 10000,
		Doc: "How many records of a partition a share group may have in flight; a group's share.partition.max.record.locks goes before it."},
	{Name: "group.share.record.lock.duration.ms", Type: Int, Default: "30000", min: 1000, max: 3600000,
		Doc: "How long a member of a share group may keep what it has acquired; a group's share.record.lock.duration.ms goes before it."},
	{Name: "group.share.session.timeout.ms", Type: Int, Default: "45000", min: 1000, max: 1800000,
		Doc: "How long members of share groups may be silent; a group's share.session.timeout.ms goes before it."},
	{Name: "leader.replication.throttled.rate", Type: Long, Default: maxLong, max: maxInt64, Doc: "Bytes per second of replicas that are copied; none is." + noEffect},
	{Name: "node.id", Type: Int, Default: NodeName, ReadOnly: true, Doc: "The number of the one broker."},
	{Name: "num.partitions", Type: Int, Default: "1", min: 1, max: MaxPartitions, Doc: "Partitions of a topic that is made without saying how many."},
	{Name: "offsets.retention.minutes", Type: Int, Default: "-1", min: -1, max: maxInt32,
		Doc: "How long commits of a group without members are kept, counted while the broker runs without a break; -1 is for ever, and the replicator's are kept for ever anyway."},
	{Name: "replica.alter.log.dirs.io.max.bytes.per.second", Type: Long, Default: maxLong, max: maxInt64, Doc: "Bytes per second between directories of logs; there is one." + noEffect},
	{Name: "socket.request.max.bytes", Type: Int, Default: "33554432", ReadOnly: true, Doc: "The largest request, in bytes."},
	{Name: "wayside.disk.share", Type: String, Default: "80%", percent: true,
		Doc: "Share of the disk that all records together may take. Beyond it the oldest segments of topics with wayside.full=drop-oldest are deleted."},
	{Name: "wayside.loss.seen", Type: String, text: 64,
		Doc: "The loss of the broker's state that somebody has dealt with, by the name that the status page gives it. Until then the page tells of it, and what no access rule speaks of is refused."},
}

// GroupDefs are the configurations that a group may have of its own.
var GroupDefs = []Def{
	{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Broker: "group.consumer.heartbeat.interval.ms", min: 10, max: 600000,
		Doc: "How often members are asked to say that they live, in the consumer protocol."},
	{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Broker: "group.consumer.session.timeout.ms", min: 1000, max: 1800000,
		Doc: "How long members may be silent, in the consumer protocol."},
	{Name: "share.auto.offset.reset", Type: String, Default: "latest", words: []string{"latest", "earliest"}, duration: true,
		Doc: "Where a share group begins in a partition that it never had: latest, earliest, or so long ago, as by_duration:P1DT2H."},
	{Name: "share.delivery.count.limit", Type: Int, Default: "5", Broker: "group.share.delivery.count.limit", min: 1, max: 100,
		Doc: "How often a record is delivered at most, in a share group."},
	{Name: "share.heartbeat.interval.ms", Type: Int, Default: "5000", Broker: "group.share.heartbeat.interval.ms", min: 10, max: 600000,
		Doc: "How often members are asked to say that they live, in a share group."},
	{Name: "share.isolation.level", Type: String, Default: "read_uncommitted", words: []string{"read_uncommitted", "read_committed"},
		Doc: "Whether a share group is given records of transactions that are open or aborted."},
	{Name: "share.partition.max.record.locks", Type: Int, Default: "2000", Broker: "group.share.partition.max.record.locks", min: 100, max: 10000,
		Doc: "How many records of a partition may be in flight, in a share group."},
	{Name: "share.record.lock.duration.ms", Type: Int, Default: "30000", Broker: "group.share.record.lock.duration.ms", min: 1000, max: 3600000,
		Doc: "How long a member may keep what it has acquired, in a share group."},
	{Name: "share.session.timeout.ms", Type: Int, Default: "45000", Broker: "group.share.session.timeout.ms", min: 1000, max: 1800000,
		Doc: "How long members may be silent, in a share group."},
}

// BrokerDefs are the configurations of the broker, by name: its own, and the
// defaults of topics.
var BrokerDefs = brokerDefs()

func brokerDefs() []Def {
	defs := slices.Clone(ownBrokerDefs)
	for _, d := range Defs {
		if d.Broker == "" {
			continue
		}
		d.Name, d.Doc = d.Broker, "Default of topics' "+d.Name+". "+d.Doc
		defs = append(defs, d)
	}
	slices.SortFunc(defs, func(a, b Def) int { return strings.Compare(a.Name, b.Name) })
	return defs
}

// checkPercent judges a share such as 80%.
func checkPercent(value string) error {
	if Percent(value) == 0 {
		return fmt.Errorf("%q is not a share from 1%% to 100%%", value)
	}
	return nil
}

// Percent is the number of a share such as 80%; 0 if it is none.
func Percent(value string) int64 {
	digits, ok := strings.CutSuffix(value, "%")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n < 1 || n > 100 || digits != strconv.FormatInt(n, 10) {
		return 0
	}
	return n
}

// checkAs says what is wrong with a configuration that a client wants.
func checkAs(defs []Def) func(map[string]string) error {
	return func(config map[string]string) error {
		for name, value := range config {
			d, ok := lookup(defs, name)
			switch {
			case !ok:
				return fmt.Errorf("%w: unknown configuration %q", ErrConfig, name)
			case d.ReadOnly:
				return fmt.Errorf("%w: %s cannot be changed while the broker runs", ErrConfig, name)
			}
			if err := d.Check(value); err != nil {
				return err
			}
		}
		return nil
	}
}

func brokerResource(name string) meta.Resource {
	return meta.Resource{Type: resourceBroker, Name: name}
}

func groupResource(name string) meta.Resource { return meta.Resource{Type: resourceGroup, Name: name} }

// brokerInForce merges what the profile and clients have set, the latter for
// all brokers and then for this one.
func (c *Catalog) brokerInForce() map[string]string {
	m := maps.Clone(c.opts.Static)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, c.meta.ConfigOf(brokerResource("")))
	maps.Copy(m, c.meta.ConfigOf(brokerResource(NodeName)))
	delete(m, "") // what configurations without a broker's name look for
	return m
}

// BrokerValue is a configuration of the broker, in force.
func (c *Catalog) BrokerValue(name string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if v, ok := c.broker[name]; ok {
		return v
	}
	d, _ := lookup(BrokerDefs, name)
	return d.Default
}

// EditBroker is Edit for the broker (NodeName) or for all brokers (empty).
func (c *Catalog) EditBroker(name string, dryRun bool, edit func(map[string]string) error) error {
	c.change.Lock()
	defer c.change.Unlock()
	changed, err := c.editResource(brokerResource(name), BrokerDefs, dryRun, edit)
	if err != nil || !changed {
		return err
	}
	now := c.brokerInForce()
	c.mu.Lock()
	c.broker = now
	c.mu.Unlock()
	for _, t := range c.All() {
		c.reconfigure(c.resolve(t.Topic, t.Partitions))
	}
	return nil
}

// EditGroup is Edit for a consumer group, which need not exist.
func (c *Catalog) EditGroup(name string, dryRun bool, edit func(map[string]string) error) error {
	c.change.Lock()
	defer c.change.Unlock()
	_, err := c.editResource(groupResource(name), GroupDefs, dryRun, edit)
	return err
}

func (c *Catalog) editResource(r meta.Resource, defs []Def, dryRun bool, edit func(map[string]string) error) (changed bool, err error) {
	old := c.meta.ConfigOf(r)
	config, err := edited(old, edit, checkAs(defs))
	if err != nil || dryRun || maps.Equal(config, old) {
		return false, err
	}
	if err := c.meta.SetConfig(r, config); err != nil {
		return false, fmt.Errorf("alter a configuration: %w", err)
	}
	return true, nil
}

// Origin says where a value comes from, numbered as DescribeConfigs reports
// it.
type Origin int8

// The origins, each going before those after it.
const (
	OfTopic      Origin = 1
	OfBroker     Origin = 2 // set by a client for this broker
	OfAllBrokers Origin = 3 // set by a client for all brokers
	OfProfile    Origin = 4
	BuiltIn      Origin = 5
	OfGroup      Origin = 8 // before those of the broker
)

// Setting is one value that a configuration has.
type Setting struct {
	Name   string // the topic's or the broker's
	Value  string
	Origin Origin
}

// TopicSettings are all values of a topic's configuration; the first counts.
func (c *Catalog) TopicSettings(t *Topic, d Def) []Setting {
	return c.settingsOf(d, t.Config, OfTopic)
}

// GroupSettings are all values of a group's configuration; the first counts.
func (c *Catalog) GroupSettings(group string, d Def) []Setting {
	return c.settingsOf(d, c.meta.ConfigOf(groupResource(group)), OfGroup)
}

func (c *Catalog) settingsOf(d Def, own map[string]string, origin Origin) []Setting {
	var out []Setting
	if v, ok := own[d.Name]; ok {
		out = append(out, Setting{d.Name, v, origin})
	}
	if d.Broker == "" {
		return append(out, Setting{d.Name, d.Default, BuiltIn})
	}
	d.Name = d.Broker
	return append(out, c.BrokerSettings(d)...)
}

// BrokerSettings are all values of a configuration of the broker; the first
// counts.
func (c *Catalog) BrokerSettings(d Def) []Setting {
	var out []Setting
	for _, layer := range []struct {
		config map[string]string
		origin Origin
	}{
		{c.meta.ConfigOf(brokerResource(NodeName)), OfBroker},
		{c.meta.ConfigOf(brokerResource("")), OfAllBrokers},
		{c.opts.Static, OfProfile},
	} {
		if v, ok := layer.config[d.Name]; ok {
			out = append(out, Setting{d.Name, v, layer.origin})
		}
	}
	return append(out, Setting{d.Name, d.Default, BuiltIn})
}
