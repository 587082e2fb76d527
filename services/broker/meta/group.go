package meta

import (
	"cmp"
	"maps"
	"slices"
)

// Changes of this file.
const kindGroup kind = 14 // Group

// Group is what the coordinator of a consumer group must not forget: who is a
// member of which generation, and what it was assigned. A change holds the
// group's own fields whole, and of its members only those that changed.
type Group struct {
	ID    string `json:"g"`
	Type  string `json:"t"` // "classic" or "consumer" (KIP-848)
	Epoch int32  `json:"e"` // the generation, or the epoch of a consumer group

	// Of classic groups.
	ProtocolType string `json:"pt,omitempty"`
	Protocol     string `json:"pr,omitempty"`
	Leader       string `json:"l,omitempty"`

	// Of consumer groups: for which epoch the targets were computed, by what,
	// and the topics that each regular expression of a member stands for.
	TargetEpoch int32               `json:"te,omitempty"`
	Assignor    string              `json:"as,omitempty"`
	Hash        uint64              `json:"h,omitempty"` // of the topics at that epoch
	Regexes     map[string][]string `json:"rx"`          // nil: as before

	Members []GroupMember `json:"m,omitempty"`
	Gone    []string      `json:"d,omitempty"` // ids of members that are none any more
	// Dropped says that nothing of the group is kept but its offsets; Fresh
	// that nothing from before this change is.
	Dropped bool `json:"x,omitempty"`
	Fresh   bool `json:"f,omitempty"`
}

// GroupMember is a member of either kind of group.
type GroupMember struct {
	ID          string `json:"i"`
	Order       int64  `json:"n"` // members that joined later have a higher one
	Instance    string `json:"s,omitempty"`
	Client      string `json:"c,omitempty"`
	Host        string `json:"h,omitempty"`
	SessionMs   int64  `json:"st,omitempty"` // of classic members
	RebalanceMs int64  `json:"rt,omitempty"`

	// Of classic members.
	Protocols  []GroupProtocol `json:"p,omitempty"`
	Assignment []byte          `json:"a,omitempty"`

	// Of consumer members.
	Epoch    int32            `json:"e,omitempty"`
	Previous int32            `json:"pe,omitempty"`
	Waits    bool             `json:"w,omitempty"` // for partitions that others still hold
	Rack     string           `json:"r,omitempty"`
	Topics   []string         `json:"t,omitempty"`
	Regex    string           `json:"rx,omitempty"`
	Assignor string           `json:"as,omitempty"`
	Assigned []GroupPartition `json:"ap,omitempty"`
	Revoking []GroupPartition `json:"rp,omitempty"`
	Target   []GroupPartition `json:"tp,omitempty"`
}

// GroupProtocol is an assignment strategy that a classic member knows.
type GroupProtocol struct {
	Name     string `json:"n"`
	Metadata []byte `json:"m,omitempty"`
}

// GroupPartition are partitions of one topic, sorted.
type GroupPartition struct {
	Topic      ID      `json:"t"`
	Partitions []int32 `json:"p"`
	Epochs     []int32 `json:"e,omitempty"` // at which each was assigned
}

// groups is the part of the state that this file keeps.
type groups map[string]*keptGroup

type keptGroup struct {
	Group   // without members
	members map[string]GroupMember
}

func (s *state) putGroup(g Group) {
	if g.Dropped {
		delete(s.groups, g.ID)
		return
	}
	if s.groups == nil {
		s.groups = groups{}
	}
	k := s.groups[g.ID]
	if k == nil || g.Fresh {
		k = &keptGroup{members: map[string]GroupMember{}}
		s.groups[g.ID] = k
	}
	for _, id := range g.Gone {
		delete(k.members, id)
	}
	for _, m := range g.Members {
		k.members[m.ID] = m
	}
	if g.Regexes == nil {
		g.Regexes = k.Regexes
	}
	g.Members, g.Gone, g.Fresh = nil, nil, false
	k.Group = g
}

func (k *keptGroup) whole() Group {
	g := k.Group
	g.Members = slices.SortedFunc(maps.Values(k.members), byOrder)
	return g
}

// Then merges a later change into one that was not written yet.
func (g Group) Then(later Group) Group {
	switch {
	case later.Dropped || later.Fresh:
		return later
	case g.Dropped:
		later.Fresh = true
		return later
	}
	gone := map[string]bool{}
	for _, id := range slices.Concat(g.Gone, later.Gone) {
		gone[id] = true
	}
	members := map[string]GroupMember{}
	for _, m := range g.Members {
		members[m.ID] = m
	}
	for _, id := range later.Gone {
		delete(members, id)
	}
	for _, m := range later.Members {
		members[m.ID] = m
	}
	later.Members = slices.SortedFunc(maps.Values(members), byOrder)
	later.Gone = slices.Sorted(maps.Keys(gone))
	later.Fresh = g.Fresh
	if later.Regexes == nil {
		later.Regexes = g.Regexes
	}
	return later
}

func byOrder(a, b GroupMember) int {
	return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.ID, b.ID))
}

// groupBatch is how many bytes of members one change of a snapshot holds,
// roughly; one member is far below what a frame can hold.
const groupBatch = 1 << 20

func (s *state) snapshotGroups(emit func([]byte)) {
	for _, id := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[id].whole()
		members := g.Members
		for first := true; first || len(members) > 0; first = false {
			n, size := 0, 0
			for n < len(members) && size < groupBatch {
				size += members[n].size()
				n++
			}
			g.Members, members = members[:n:n], members[n:]
			emit(encode(kindGroup, g))
			g.Regexes = nil
		}
	}
}

// size is about how long a member's JSON is, in bytes.
func (m *GroupMember) size() int {
	n := 200 + len(m.ID) + len(m.Instance) + len(m.Client) + len(m.Host) + len(m.Regex) + len(m.Assignment)*4/3
	for _, p := range m.Protocols {
		n += 20 + len(p.Name) + len(p.Metadata)*4/3
	}
	for _, t := range m.Topics {
		n += 3 + len(t)
	}
	for _, ps := range [][]GroupPartition{m.Assigned, m.Revoking, m.Target} {
		for _, p := range ps {
			n += 100 + 7*len(p.Partitions) + 7*len(p.Epochs)
		}
	}
	return n
}

// PutGroup records what has changed in a group.
func (st *Store) PutGroup(g Group) error { return st.j.Append(encode(kindGroup, g)) }

// GroupStates are all groups that were put, by id, with their members in the
// order in which they joined.
func (st *Store) GroupStates() []Group {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	var out []Group
	for _, id := range slices.Sorted(maps.Keys(st.s.groups)) {
		out = append(out, st.s.groups[id].whole())
	}
	return out
}

// TopicsVersion changes with every change of any topic.
func (st *Store) TopicsVersion() uint64 {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.topicsVersion
}

// DeleteOffsets takes committed offsets of a group back.
func (st *Store) DeleteOffsets(group string, offsets []Offset) error {
	return st.j.Append(encode(kindOffsets, commit{Group: group, Deleted: offsets}))
}

// maxOffsetBytes is how much memory committed offsets may take before new
// ones are refused. Those that are there can always be moved on.
const maxOffsetBytes = 32 << 20

// weight is what an offset takes in memory, roughly; nothing if there is none.
func (o Offset) weight() int64 {
	if o.Topic == "" {
		return 0
	}
	return int64(200 + len(o.Topic) + len(o.Metadata))
}

// OffsetsFull reports whether there is no memory for offsets of partitions
// that a group has not committed before.
func (st *Store) OffsetsFull() bool {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.offsetBytes > maxOffsetBytes
}
