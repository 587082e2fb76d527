package share

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// Info describes a share group.
type Info struct {
	ID, State string
	Epoch     int32
	Members   []MemberInfo
}

// MemberInfo describes its member.
type MemberInfo struct {
	ID, Rack, Client, Host string
	Epoch                  int32
	Topics                 []string
	Assigned               []TopicPartitions
}

// TopicPartitions are partitions of a topic that exists.
type TopicPartitions struct {
	ID         meta.ID
	Name       string
	Partitions []int32
}

func (g *group) state() string {
	if len(g.members) == 0 {
		return "Empty"
	}
	return "Stable"
}

// List returns all share groups, by id, without members.
func (m *Manager) List() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Info
	for _, g := range m.groups {
		if len(g.members) > 0 {
			out = append(out, Info{ID: g.id, State: g.state()})
		}
	}
	for _, id := range m.Meta.ShareGroups() {
		if g := m.groups[id]; g == nil || len(g.members) == 0 {
			out = append(out, Info{ID: id, State: "Empty"})
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Describe returns a share group, or kerr.GroupIDNotFound.
func (m *Manager) Describe(id string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[id]
	if g == nil || len(g.members) == 0 && !m.Meta.HasShares(id) {
		if m.Meta.HasShares(id) {
			return Info{ID: id, State: "Empty"}, nil
		}
		return Info{}, kerr.GroupIDNotFound
	}
	names := map[meta.ID]string{}
	for name, t := range m.view().byName {
		names[t.id] = name
	}
	info := Info{ID: id, State: g.state(), Epoch: g.epoch}
	for _, mem := range g.sorted() {
		mi := MemberInfo{ID: mem.id, Rack: mem.rack, Client: mem.client, Host: mem.host, Epoch: mem.epoch, Topics: mem.topics}
		for _, p := range mem.assigned {
			if name, ok := names[p.Topic]; ok {
				mi.Assigned = append(mi.Assigned, TopicPartitions{p.Topic, name, p.Partitions})
			}
		}
		info.Members = append(info.Members, mi)
	}
	return info, nil
}

// Offset is where a group begins in a partition, and how many offsets from
// there on it is not done with; false if it never had the partition.
func (m *Manager) Offset(id string, key Partition, log *store.Log) (start, lag int64, ok bool) {
	_, hw := log.Bounds()
	m.mu.Lock()
	var p *partition
	if g := m.groups[id]; g != nil {
		p = g.parts[key]
	}
	m.mu.Unlock()
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.begun {
			return p.window.start, max(0, hw-p.window.start-p.window.completed()), true
		}
		if p.dropped {
			return 0, 0, false
		}
	}
	kept, ok := m.Meta.Share(id, key.Topic, key.Num)
	if !ok {
		return 0, 0, false
	}
	w, err := restore(kept.Start, kept.Runs)
	if err != nil {
		return kept.Start, -1, true
	}
	return w.start, max(0, hw-w.start-w.completed()), true
}

// Partitions are those of which a group has a state, by topic.
func (m *Manager) Partitions(id string) (out []Partition) {
	for _, k := range m.Meta.Shares(id) {
		out = append(out, Partition{k.Topic, k.Partition})
	}
	return out
}

// Start is where a group is to begin in a partition, whose log is Log. Below 0,
// the group is to forget it; Log may be nil then.
type Start struct {
	Partition
	Log    *store.Log
	Offset int64
}

// Put makes a group without members begin anew in some partitions; else
// kerr.NonEmptyGroup. It makes the group, unless known says that it must be
// there. Durable when it returns.
func (m *Manager) Put(id string, at []Start, known bool) error {
	if err := m.put(id, at, known); err != nil {
		return err
	}
	return <-m.Settled()
}

func (m *Manager) put(id string, at []Start, known bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch g := m.groups[id]; {
	case g != nil && len(g.members) > 0:
		return kerr.NonEmptyGroup
	case known && !m.Meta.HasShares(id):
		return kerr.GroupIDNotFound
	case !known && m.Meta.SharesFull():
		return kerr.CoordinatorNotAvailable
	}
	g, err := m.group(id)
	if err != nil {
		return err
	}
	for _, s := range at {
		m.partition(g, s.Partition, s.Log).put(s.Offset)
	}
	m.tidy(g)
	return nil
}

// Delete forgets a group without members; else kerr.NonEmptyGroup or
// kerr.GroupIDNotFound.
func (m *Manager) Delete(id string) error {
	var all []Start
	for _, key := range m.Partitions(id) {
		all = append(all, Start{Partition: key, Offset: -1})
	}
	return m.Put(id, all, true)
}
