package meta

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// Changes of this file.
const kindShares kind = 18 // []SharePartition

// SharePartition is how far a share group (KIP-932) has come in a partition.
// A change holds it whole.
type SharePartition struct {
	Group     string `json:"g"`
	Topic     ID     `json:"t"`
	Partition int32  `json:"p"`
	Start     int64  `json:"s"` // offset before which everything is done with
	Epoch     int32  `json:"e"` // leader epoch in which that was true
	// Runs say what became of the records from Start on that were delivered,
	// three numbers each: how many offsets, their state (0 to be delivered
	// again, 2 acknowledged, 4 never to be delivered again), and how often they
	// were delivered.
	Runs []int64 `json:"r,omitempty"`
	// Dropped says that nothing of it is kept.
	Dropped bool `json:"x,omitempty"`
}

type sharePart struct {
	topic ID
	num   int32
}

// shares is the part of the state that this file keeps, by group.
type shares struct {
	of map[string]map[sharePart]SharePartition
	// bytes is what they take in memory, roughly.
	bytes int64
}

// putShares ignores topics that are gone: what a coordinator has on its way to
// the disk when a topic is deleted comes after the deletion.
func (s *state) putShares(all []SharePartition) {
	for _, p := range all {
		_, exists := s.topics[p.Topic]
		s.shares.put(p, exists && !p.Dropped)
	}
}

func (s *shares) put(p SharePartition, keep bool) {
	parts, at := s.of[p.Group], sharePart{p.Topic, p.Partition}
	if old, ok := parts[at]; ok {
		s.bytes -= old.weight()
		delete(parts, at)
	}
	switch {
	case keep && parts == nil:
		if s.of == nil {
			s.of = map[string]map[sharePart]SharePartition{}
		}
		parts = map[sharePart]SharePartition{}
		s.of[p.Group] = parts
		fallthrough
	case keep:
		parts[at] = p
		s.bytes += p.weight()
	case len(parts) == 0:
		delete(s.of, p.Group)
	}
}

func (s *shares) dropTopic(id ID) {
	for _, parts := range s.of {
		for at, p := range parts {
			if at.topic == id {
				s.put(p, false)
			}
		}
	}
}

// weight is what a partition's state takes in memory, roughly.
func (p *SharePartition) weight() int64 { return int64(250 + len(p.Group) + 8*len(p.Runs)) }

// shareBatch is how many bytes of states one change of a snapshot holds,
// roughly.
const shareBatch = 1 << 20

func (s *state) snapshotShares(emit func([]byte)) {
	var batch []SharePartition
	size := int64(0)
	flush := func() {
		if len(batch) > 0 {
			emit(encode(kindShares, batch))
		}
		batch, size = batch[:0], 0
	}
	for _, group := range slices.Sorted(maps.Keys(s.shares.of)) {
		for _, p := range sortedShares(s.shares.of[group]) {
			batch = append(batch, p)
			if size += p.weight(); size > shareBatch {
				flush()
			}
		}
	}
	flush()
}

func sortedShares(m map[sharePart]SharePartition) []SharePartition {
	return slices.SortedFunc(maps.Values(m), func(a, b SharePartition) int {
		return cmp.Or(bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
}

// PutShares records how far share groups have come in some partitions.
func (st *Store) PutShares(all []SharePartition) error { return st.j.Append(encode(kindShares, all)) }

// Share is how far a share group has come in a partition. Its Runs must not be
// changed.
func (st *Store) Share(group string, topic ID, part int32) (SharePartition, bool) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	p, ok := st.s.shares.of[group][sharePart{topic, part}]
	return p, ok
}

// Shares is Share for all partitions of a group, by topic and partition.
func (st *Store) Shares(group string) []SharePartition {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedShares(st.s.shares.of[group])
}

// HasShares reports whether anything is kept of a share group.
func (st *Store) HasShares(group string) bool {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.shares.of[group] != nil
}

// ShareGroups are the share groups of which something is kept, by name.
func (st *Store) ShareGroups() []string {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return slices.Sorted(maps.Keys(st.s.shares.of))
}

// maxShareBytes is how much memory the states of share groups may take before
// new partitions are refused. Those that are there can always be moved on.
const maxShareBytes = 8 << 20

// SharesFull reports whether there is no memory for further partitions of
// share groups.
func (st *Store) SharesFull() bool {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.shares.bytes > maxShareBytes
}
