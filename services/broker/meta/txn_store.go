package meta

import (
	"cmp"
	"maps"
	"slices"
)

// PutTxn makes one transition of a transactional id.
func (st *Store) PutTxn(c TxnChange) error { return st.j.Append(encode(kindTxn, c)) }

// Txn returns a transactional id.
func (st *Store) Txn(id string) (Txn, bool) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	t := st.s.txns.of[id]
	if t == nil {
		return Txn{}, false
	}
	return t.Txn, true
}

// Txns returns all transactional ids, sorted.
func (st *Store) Txns() []Txn {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	out := make([]Txn, 0, len(st.s.txns.of))
	for _, t := range st.s.txns.of {
		out = append(out, t.Txn)
	}
	slices.SortFunc(out, func(a, b Txn) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// TxnLacks returns those of some partitions that an id's open transaction
// does not have.
func (st *Store) TxnLacks(id string, parts []TxnPartition) []TxnPartition {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	t := st.s.txns.of[id]
	var out []TxnPartition
	for _, p := range parts {
		if t != nil {
			if _, ok := t.parts[p]; ok {
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// TxnPartitions returns the partitions of an id's open transaction.
func (st *Store) TxnPartitions(id string) []TxnPartition {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	if t := st.s.txns.of[id]; t != nil {
		return sortedParts(t.parts)
	}
	return nil
}

// maxTxnPartitions bounds the memory that open transactions take: about 100
// bytes a partition.
const maxTxnPartitions = 200_000

// TxnsFull reports whether open transactions have so many partitions that no
// more should be added.
func (st *Store) TxnsFull() bool {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.txns.parts > maxTxnPartitions
}

// TxnGroups returns the groups of an id's open transaction, by name, with the
// offsets that wait for its end.
func (st *Store) TxnGroups(id string) []TxnOffsets {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	var out []TxnOffsets
	if t := st.s.txns.of[id]; t != nil {
		for _, g := range slices.Sorted(maps.Keys(t.groups)) {
			out = append(out, TxnOffsets{g, sortedOffsets(t.groups[g])})
		}
	}
	return out
}

// TxnGroup reports whether an id's open transaction has a group, and how many
// groups it has.
func (st *Store) TxnGroup(id, group string) (has bool, all int) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	if t := st.s.txns.of[id]; t != nil {
		_, has = t.groups[group]
		all = len(t.groups)
	}
	return has, all
}

// OwedMarkers returns the markers that are still to be written.
func (st *Store) OwedMarkers() []TxnMarker {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedMarkers(st.s.txns.owed)
}

// PendingOffset reports whether a transaction that is not over has an offset
// of a group in a partition.
func (st *Store) PendingOffset(group, topic string, part int32) bool {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return len(st.s.txns.pending[group][partition{topic, part}]) > 0
}
