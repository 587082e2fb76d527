package group

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// slot is one partition; slots are partitions with the epoch at which each
// was assigned.
type (
	slot struct {
		topic meta.ID
		part  int32
	}
	slots map[slot]int32
)

func (s slot) compare(o slot) int {
	return cmp.Or(bytes.Compare(s.topic[:], o.topic[:]), cmp.Compare(s.part, o.part))
}

// consumerGroup is one of the consumer protocol (KIP-848). Its epoch rises
// when members, subscriptions or topics change; then every member gets a
// target. A member moves to the target's epoch when it has given up what is
// not in its target, and gets what is as others give it up.
type consumerGroup struct {
	*record
	m           *Manager
	id          string
	epoch       int32
	targetEpoch int32
	assignor    string
	hash        uint64 // of the subscribed topics, at targetEpoch
	members     map[string]*consumerMember
	static      map[string]string // instance -> member id
	holder      map[slot]string   // member that has it or is giving it up
	order       int64             // of the next member
	regexes     map[string][]string
	resolved    map[string]uint64 // regex -> version of the topics it was resolved for
	seen        uint64            // version of the topics that hash is known to fit
	size        int

	// What the next change must hold; begun says that it is not the first.
	begun        bool
	dirty        map[string]bool
	gone         []string
	head         bool
	regexesDirty bool
}

type consumerMember struct {
	id, instance, client, host, rack string

	order     int64
	rebalance time.Duration
	topics    []string // sorted
	regex     string
	assignor  string

	epoch, previous int32
	waits           bool // for partitions of its target that others have
	assigned        slots
	revoking        slots // until it says that it has them no more
	target          slots

	classic *classicSide // nil: it speaks the consumer protocol

	expiry     *session
	revocation *time.Timer
	size       int
}

// leftForNow is the epoch of a static member that said it will be back.
const leftForNow = -2

func (m *Manager) newConsumerGroup(id string) *consumerGroup {
	return &consumerGroup{
		record: &record{}, m: m, id: id,
		members: map[string]*consumerMember{}, static: map[string]string{}, holder: map[slot]string{},
		regexes: map[string][]string{}, resolved: map[string]uint64{}, dirty: map[string]bool{},
	}
}

// consumer finds a consumer group; make says to make it when it is not there.
// A classic group becomes one then.
func (m *Manager) consumer(id string, make bool) (*consumerGroup, error) {
	if err := m.ready(id); err != nil {
		return nil, err
	}
	c, g := m.consumers[id], m.groups[id]
	switch {
	case c != nil:
		return c, nil
	case !make: // it was removed, and joins again
		return nil, kerr.UnknownMemberID
	case g != nil:
		return m.upgrade(g)
	case m.taken(id):
		return nil, kerr.GroupIDNotFound // "is not a consumer group", as in Kafka
	case m.full():
		return nil, kerr.CoordinatorNotAvailable
	}
	c = m.newConsumerGroup(id)
	m.consumers[id] = c
	return c, nil
}

func (c *consumerGroup) state() State {
	switch {
	case len(c.members) == 0:
		return Empty
	case c.epoch > c.targetEpoch:
		return Assigning
	}
	for _, mem := range c.members {
		if mem.epoch != c.targetEpoch || len(mem.revoking) > 0 || mem.waits {
			return Reconciling
		}
	}
	return Stable
}

func (c *consumerGroup) sorted() []*consumerMember {
	return slices.SortedFunc(maps.Values(c.members), func(a, b *consumerMember) int { return cmp.Compare(a.order, b.order) })
}

func (c *consumerGroup) touch(mem *consumerMember) { c.dirty[mem.id] = true }

// add takes a member in, new or in the place of another.
func (c *consumerGroup) add(mem *consumerMember) {
	c.members[mem.id] = mem
	if mem.instance != "" {
		c.static[mem.instance] = mem.id
	}
	for _, held := range []slots{mem.assigned, mem.revoking} {
		for s := range held {
			c.holder[s] = mem.id
		}
	}
	c.order = max(c.order, mem.order+1)
	mem.expiry = c.m.watch(c.sessionOf(mem), func() { c.fence(mem) })
	c.charge(mem)
}

// drop takes a member out of all tables; its partitions are nobody's.
func (c *consumerGroup) drop(mem *consumerMember) {
	mem.release()
	delete(c.members, mem.id)
	delete(c.dirty, mem.id)
	c.gone = append(c.gone, mem.id)
	if c.static[mem.instance] == mem.id {
		delete(c.static, mem.instance)
	}
	c.release(mem, mem.assigned)
	c.release(mem, mem.revoking)
	c.charges(-mem.size)
	mem.size = 0
}

func (c *consumerGroup) release(mem *consumerMember, held slots) {
	for s := range held {
		if c.holder[s] == mem.id {
			delete(c.holder, s)
		}
	}
}

// remove ends a membership; the others learn of it at their heartbeats.
func (c *consumerGroup) remove(mem *consumerMember) {
	c.drop(mem)
	c.dropRegexes()
	if mem.classic == nil && c.downgrade() {
		return
	}
	c.epoch++
	c.head = true
	if len(c.members) == 0 {
		c.targetEpoch = c.epoch
		c.forget()
	}
}

// fence removes a member that was not heard of for its session, or that did
// not give up partitions in time.
func (c *consumerGroup) fence(mem *consumerMember) {
	if c.members[mem.id] != mem {
		return
	}
	c.m.Log.Info("a consumer is removed from its group: not heard of, or too slow to give up partitions",
		"group", c.id, "member", mem.id, "instance", mem.instance)
	c.remove(mem)
	c.flush()
}

// forget drops a group that nobody is in and that has committed nothing; see
// the classic group's.
func (c *consumerGroup) forget() {
	forgettable := func() bool { return c.m.consumers[c.id] == c && len(c.members) == 0 && !c.m.Meta.HasGroup(c.id) }
	switch {
	case !forgettable():
	case !c.kept && c.next == nil && !c.writing:
		delete(c.m.consumers, c.id)
		c.clean()
	case c.kept:
		c.clean()
		c.m.save(c.record, meta.Group{ID: c.id, Type: Consumer, Dropped: true}, func(err error) {
			if err == nil && forgettable() && !c.kept {
				delete(c.m.consumers, c.id)
			}
		})
	}
}

func (c *consumerGroup) clean() {
	clear(c.dirty)
	c.gone, c.head, c.regexesDirty = nil, false, false
}

// flush writes what has changed.
func (c *consumerGroup) flush() {
	if len(c.dirty) == 0 && len(c.gone) == 0 && !c.head && !c.regexesDirty {
		return
	}
	change := meta.Group{
		ID: c.id, Type: Consumer, Epoch: c.epoch, ProtocolType: "consumer",
		TargetEpoch: c.targetEpoch, Assignor: c.assignor, Hash: c.hash, Gone: c.gone,
		Fresh: !c.begun,
	}
	c.begun = true
	if c.regexesDirty {
		change.Regexes = maps.Clone(c.regexes)
	}
	for id := range c.dirty {
		change.Members = append(change.Members, c.members[id].kept())
	}
	slices.SortFunc(change.Members, func(a, b meta.GroupMember) int { return cmp.Compare(a.Order, b.Order) })
	c.clean()
	c.m.save(c.record, change, nil)
}

func (mem *consumerMember) kept() meta.GroupMember {
	k := meta.GroupMember{
		ID: mem.id, Order: mem.order, Instance: mem.instance, Client: mem.client, Host: mem.host,
		RebalanceMs: mem.rebalance.Milliseconds(), Epoch: mem.epoch, Previous: mem.previous, Waits: mem.waits,
		Rack: mem.rack, Topics: mem.topics, Regex: mem.regex, Assignor: mem.assignor,
		Assigned: mem.assigned.list(true), Revoking: mem.revoking.list(true), Target: mem.target.list(false),
	}
	if mem.classic != nil {
		mem.classicKept(&k)
	}
	return k
}

func (m *Manager) restoreConsumers(kept meta.Group) {
	c := m.newConsumerGroup(kept.ID)
	c.kept, c.begun = true, true
	c.epoch, c.targetEpoch, c.assignor, c.hash = kept.Epoch, kept.TargetEpoch, kept.Assignor, kept.Hash
	for expr, names := range kept.Regexes {
		c.regexes[expr] = names
		c.charges(listBytes(names))
	}
	for _, k := range kept.Members {
		mem := &consumerMember{
			id: k.ID, instance: k.Instance, client: k.Client, host: k.Host, rack: k.Rack, order: k.Order,
			rebalance: time.Duration(k.RebalanceMs) * time.Millisecond, topics: k.Topics, regex: k.Regex, assignor: k.Assignor,
			epoch: k.Epoch, previous: k.Previous, waits: k.Waits, classic: restoreClassic(k),
			assigned: slotsOf(k.Assigned), revoking: slotsOf(k.Revoking), target: slotsOf(k.Target),
		}
		c.add(mem)
		c.watchRevocation(mem)
	}
	m.consumers[c.id] = c
}

// list groups slots by topic, sorted; epochs says to tell when each was assigned.
func (s slots) list(epochs bool) []meta.GroupPartition {
	var out []meta.GroupPartition
	for _, at := range s.sorted() {
		if n := len(out); n == 0 || out[n-1].Topic != at.topic {
			out = append(out, meta.GroupPartition{Topic: at.topic})
		}
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, at.part)
		if epochs {
			last.Epochs = append(last.Epochs, s[at])
		}
	}
	return out
}

func slotsOf(list []meta.GroupPartition) slots {
	out := slots{}
	for _, p := range list {
		for i, part := range p.Partitions {
			since := int32(0)
			if i < len(p.Epochs) {
				since = p.Epochs[i]
			}
			out[slot{p.Topic, part}] = since
		}
	}
	return out
}

// overlaps reports whether any of s is in others.
func (s slots) overlaps(others slots) bool {
	for at := range s {
		if _, ok := others[at]; ok {
			return true
		}
	}
	return false
}
