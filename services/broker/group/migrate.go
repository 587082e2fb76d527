package group

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Groups with members move between the protocols while they work (KIP-848,
// "online migration"): a classic group becomes one of the consumer protocol
// when a member of that joins, and its classic members are then served by
// mixed.go; it becomes classic again when the last member of the consumer
// protocol leaves.

// consumerType is the protocol type of classic groups that can move.
const consumerType = "consumer"

// migration says which way groups may move
// (group.consumer.migration.policy).
func (m *Manager) migration() (up, down bool) {
	switch strings.ToLower(m.setting("group.consumer.migration.policy")) {
	case "disabled":
		return false, false
	case "upgrade":
		return true, false
	case "downgrade":
		return false, true
	}
	return true, true
}

// upgrade turns a classic group into one of the consumer protocol, with its
// members and what they are assigned. It is refused, as a group of another
// kind, if they are no consumers or what they say cannot be taken over.
func (m *Manager) upgrade(g *group) (*consumerGroup, error) {
	up, _ := m.migration()
	if len(g.members) > 0 && (!up || g.protocolType != consumerType) {
		return nil, kerr.GroupIDNotFound
	}
	c := m.newConsumerGroup(g.id)
	c.record, c.epoch, c.targetEpoch, c.head = g.record, g.generation, g.generation, true
	var members []*consumerMember
	for i, id := range g.order {
		mem, err := c.upgraded(g.members[id], g.protocol)
		if err != nil {
			return nil, kerr.GroupIDNotFound
		}
		mem.order = int64(i)
		members = append(members, mem)
	}
	g.dissolve()
	delete(m.groups, g.id)
	m.consumers[g.id] = c
	for _, mem := range members {
		c.add(mem)
		c.touch(mem)
	}
	if len(members) > 0 {
		m.Log.Info("a classic group has become one of the consumer protocol", "group", g.id, "members", len(members))
	}
	return c, nil
}

// upgraded is a classic member as one of a consumer group.
func (c *consumerGroup) upgraded(old *member, protocol string) (*consumerMember, error) {
	said := old.protocols[0].Metadata
	if old.knows(protocol) {
		said = old.metadata(protocol)
	}
	sub, err := readSubscription(said)
	if err != nil {
		return nil, err
	}
	assigned, err := c.readAssignment(old.assignment)
	if err != nil {
		return nil, err
	}
	return &consumerMember{
		id: old.id, instance: old.instance, client: old.client, host: old.host, rack: deref(sub.Rack), rebalance: old.rebalance,
		topics: sub.topics(), epoch: c.epoch, previous: c.epoch, assigned: assigned, target: assigned,
		classic: &classicSide{session: old.session, protocols: old.protocols},
	}, nil
}

// dissolve ends a classic group whose members go on elsewhere.
func (g *group) dissolve() {
	stop(g.timer)
	g.round++ // what is being written for it concerns nobody
	g.state = Dead
	for id := range g.pending {
		g.unpend(id)
	}
	for _, mem := range g.members {
		mem.expiry.stop()
		mem.answer(kerr.RebalanceInProgress)
		g.charge(mem, 0)
	}
	clear(g.members)
}

// downgrade turns a consumer group that has only classic members left into a
// classic group, and begins a rebalance; false if that may not be.
func (c *consumerGroup) downgrade() bool {
	if _, down := c.m.migration(); !down || len(c.members) == 0 || !c.allClassic() {
		return false
	}
	g := c.m.newGroup(c.id)
	g.record, g.generation, g.protocolType, g.state = c.record, c.epoch, consumerType, Stable
	for _, old := range c.sorted() {
		old.release()
		c.charges(-old.size)
		mem := &member{
			id: old.id, instance: old.instance, client: old.client, host: old.host, session: old.classic.session,
			rebalance: old.rebalance, protocols: old.classic.protocols, assignment: c.assignment(old), synced: true,
		}
		g.add(mem)
		g.charge(mem, memberSize(&JoinRequest{
			MemberID: mem.id, Instance: mem.instance, Client: mem.client, Host: mem.host, Protocols: mem.protocols,
		}, mem.assignment))
	}
	g.protocol, g.leader = g.choose(), g.order[0]
	clear(c.members)
	c.clean()
	delete(c.m.consumers, c.id)
	c.m.groups[c.id] = g
	c.m.Log.Info("a group of the consumer protocol has become a classic one", "group", c.id, "members", len(g.members))
	c.m.save(g.record, g.change(g.assignments()), nil)
	g.prepare()
	return true
}

func (c *consumerGroup) allClassic() bool {
	for _, mem := range c.members {
		if mem.classic == nil {
			return false
		}
	}
	return true
}

// subscription is what a classic consumer says about itself.
type subscription struct{ kmsg.ConsumerMemberMetadata }

func readSubscription(b []byte) (s subscription, err error) {
	if s.ReadFrom(b) != nil {
		return s, kerr.InvalidRequest
	}
	for _, t := range append(s.Topics, deref(s.Rack)) {
		if !utf8.ValidString(t) { // the journal keeps text
			return s, kerr.InvalidRequest
		}
	}
	return s, nil
}

func (s subscription) topics() []string {
	return slices.Compact(slices.Sorted(slices.Values(s.Topics)))
}

// readAssignment reads what a classic consumer was assigned. What its own
// assignor told it besides would be lost, and is an error.
func (c *consumerGroup) readAssignment(b []byte) (slots, error) {
	out := slots{}
	if len(b) == 0 {
		return out, nil // it has not asked yet
	}
	var a kmsg.ConsumerMemberAssignment
	if a.ReadFrom(b) != nil || len(a.UserData) > 0 {
		return nil, kerr.InvalidRequest
	}
	view := c.m.view()
	for _, at := range a.Topics {
		t, ok := view.byName[at.Topic]
		for _, part := range at.Partitions {
			if ok && part >= 0 && part < t.partitions {
				out[slot{t.id, part}] = c.epoch
			}
		}
	}
	return out, nil
}

// assignment is what a member has, as a classic consumer reads it.
func (c *consumerGroup) assignment(mem *consumerMember) []byte {
	names := map[meta.ID]string{}
	for name, t := range c.m.view().byName {
		names[t.id] = name
	}
	var a kmsg.ConsumerMemberAssignment
	if said := mem.classic.protocols[0].Metadata; len(said) > 1 {
		a.Version = int16(said[0])<<8 | int16(said[1])
	}
	for _, p := range mem.assigned.list(false) {
		if name, ok := names[p.Topic]; ok {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: name, Partitions: p.Partitions})
		}
	}
	return a.AppendTo(nil)
}
