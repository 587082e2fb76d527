package share

import (
	"slices"

	"github.com/waysideos/wayside/services/broker/meta"
)

// topics is what there is to subscribe to.
type topics struct {
	version uint64
	byName  map[string]topic
}

type topic struct {
	id         meta.ID
	partitions int32
}

// view is the topics as they are now.
func (m *Manager) view() *topics {
	if v := m.Meta.TopicsVersion(); m.topics.byName == nil || v != m.topics.version {
		m.topics = topics{version: v, byName: map[string]topic{}}
		for _, t := range m.Meta.Topics() {
			m.topics.byName[t.Name] = topic{t.ID, t.Partitions}
		}
	}
	return &m.topics
}

// forget lets go of partitions whose topic is gone.
func (m *Manager) forget(g *group) {
	there := map[meta.ID]bool{}
	for _, t := range m.view().byName {
		there[t.id] = true
	}
	for key, p := range g.parts {
		if !there[key.Topic] {
			p.close()
			delete(g.parts, key)
		}
	}
}

// assign gives every member its partitions, in a new epoch.
func (m *Manager) assign(g *group) {
	g.epoch++
	members, bytes := g.sorted(), 0
	for i, to := range m.assignments(g) {
		members[i].assigned = to
		bytes += members[i].bytes()
	}
	m.bytes += bytes - g.bytes
	g.bytes = bytes
}

// assignedOther reports whether members would be assigned something else now.
func (m *Manager) assignedOther(g *group) bool {
	now := m.assignments(g)
	for i, mem := range g.sorted() {
		if !slices.EqualFunc(now[i], mem.assigned, func(a, b meta.GroupPartition) bool {
			return a.Topic == b.Topic && slices.Equal(a.Partitions, b.Partitions)
		}) {
			return true
		}
	}
	return false
}

// assignments are by member, in the order in which they joined.
func (m *Manager) assignments(g *group) [][]meta.GroupPartition {
	members, view := g.sorted(), m.view()
	out := make([][]meta.GroupPartition, len(members))
	users := map[string][]int{}
	var names []string
	for i, mem := range members {
		for _, name := range mem.topics {
			if users[name] == nil {
				names = append(names, name)
			}
			users[name] = append(users[name], i)
		}
	}
	slices.Sort(names)
	turn := 0 // so that who has one partition more is another in each topic
	for _, name := range names {
		t, ok := view.byName[name]
		if !ok {
			continue
		}
		for k, parts := range simple(int(t.partitions), len(users[name])) {
			to := &out[users[name][(k+turn)%len(users[name])]]
			*to = append(*to, meta.GroupPartition{Topic: t.id, Partitions: parts})
		}
		turn++
	}
	return out
}

// simple shares the partitions of a topic among members: each partition is
// some member's and each member has one at least; as many for each, and as
// many members to each, as can be.
func simple(partitions, members int) [][]int32 {
	out := make([][]int32, members)
	for i := range max(partitions, members) {
		if partitions > 0 {
			out[i%members] = append(out[i%members], int32(i%partitions))
		}
	}
	return out
}
