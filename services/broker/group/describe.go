package group

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Info describes a group.
type Info struct {
	ID, Type, ProtocolType, Protocol string
	State                            State
	Members                          []MemberInfo
}

// MemberInfo describes a member of a classic group.
type MemberInfo struct {
	ID, Instance, Client, Host string
	Metadata, Assignment       []byte
}

// Describe returns a classic group; its state is Dead when there is none.
func (m *Manager) Describe(id string) Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[id]
	switch {
	case g != nil:
		return g.describe()
	case m.consumers[id] == nil && m.Meta.HasGroup(id):
		return simple(id)
	}
	return Info{ID: id, Type: Classic, State: Dead}
}

// simple is a group that has commits and has never had members.
func simple(id string) Info { return Info{ID: id, Type: Classic, State: Empty} }

func (g *group) info() Info {
	return Info{ID: g.id, Type: Classic, ProtocolType: g.protocolType, Protocol: g.protocol, State: g.state}
}

func (g *group) describe() Info {
	info := g.info()
	for _, id := range g.order {
		mem := g.members[id]
		mi := MemberInfo{ID: mem.id, Instance: mem.instance, Client: mem.client, Host: mem.host}
		if g.state == Stable {
			mi.Metadata, mi.Assignment = mem.metadata(g.protocol), mem.assignment
		}
		info.Members = append(info.Members, mi)
	}
	return info
}

// List returns all groups, by id, without members.
func (m *Manager) List() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Info
	for _, g := range m.groups {
		out = append(out, g.info())
	}
	for _, c := range m.consumers {
		out = append(out, Info{ID: c.id, Type: Consumer, ProtocolType: "consumer", State: c.state()})
	}
	for _, id := range m.Meta.Groups() {
		if m.groups[id] == nil && m.consumers[id] == nil {
			out = append(out, simple(id))
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// ConsumerInfo describes a group of the consumer protocol.
type ConsumerInfo struct {
	ID                     string
	State                  State
	Epoch, AssignmentEpoch int32
	Assignor               string
	Members                []ConsumerMemberInfo
}

// ConsumerMemberInfo describes its member. Topics are those named, without
// those that Regex stands for.
type ConsumerMemberInfo struct {
	ID, Instance, Rack, Client, Host string
	Epoch                            int32
	Topics                           []string
	Regex                            string
	Classic                          bool // it speaks the classic protocol
	Assigned, Target                 []TopicPartitions
}

// TopicPartitions are partitions of a topic that exists.
type TopicPartitions struct {
	ID         meta.ID
	Name       string
	Partitions []int32
}

// DescribeConsumer returns a group of the consumer protocol, or
// kerr.GroupIDNotFound.
func (m *Manager) DescribeConsumer(id string) (ConsumerInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.consumers[id]
	if c == nil {
		return ConsumerInfo{}, kerr.GroupIDNotFound
	}
	names := map[meta.ID]string{}
	for name, t := range m.view().byName {
		names[t.id] = name
	}
	named := func(s slots) (out []TopicPartitions) {
		for _, p := range s.list(false) {
			if name, ok := names[p.Topic]; ok {
				out = append(out, TopicPartitions{p.Topic, name, p.Partitions})
			}
		}
		return out
	}
	info := ConsumerInfo{ID: id, State: c.state(), Epoch: c.epoch, AssignmentEpoch: c.targetEpoch, Assignor: cmp.Or(c.assignor, uniformName)}
	for _, mem := range c.sorted() {
		info.Members = append(info.Members, ConsumerMemberInfo{
			ID: mem.id, Instance: mem.instance, Rack: mem.rack, Client: mem.client, Host: mem.host,
			Epoch: mem.epoch, Topics: mem.topics, Regex: mem.regex, Classic: mem.classic != nil,
			Assigned: named(mem.assigned), Target: named(mem.target),
		})
	}
	return info, nil
}

// Delete forgets a group without members, and its commits; else
// kerr.NonEmptyGroup or kerr.GroupIDNotFound. Meanwhile nobody may join.
func (m *Manager) Delete(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.ready(id); err != nil {
		return err
	}
	rec, err := m.deletable(id)
	if err != nil {
		return err
	}
	m.deleting[id] = true
	defer delete(m.deleting, id)
	if rec != nil { // what is being written must not come after the deletion
		written := make(chan error, 1)
		m.settled(rec, func(err error) { written <- err })
		m.mu.Unlock()
		err := <-written
		m.mu.Lock()
		if err != nil {
			return err
		}
	}
	m.mu.Unlock()
	err = m.Meta.DeleteGroup(id)
	m.mu.Lock()
	if err != nil {
		return err
	}
	if g := m.groups[id]; g != nil {
		for id := range g.pending {
			g.unpend(id)
		}
		stop(g.timer)
	}
	delete(m.groups, id)
	delete(m.consumers, id)
	return nil
}

func (m *Manager) deletable(id string) (*record, error) {
	g, c := m.groups[id], m.consumers[id]
	switch {
	case g != nil && len(g.members) > 0, c != nil && len(c.members) > 0:
		return nil, kerr.NonEmptyGroup
	case g != nil:
		return g.record, nil
	case c != nil:
		return c.record, nil
	case !m.Meta.HasGroup(id):
		return nil, kerr.GroupIDNotFound
	}
	return nil, nil
}
