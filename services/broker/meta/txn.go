package meta

import (
	"cmp"
	"maps"
	"slices"
)

const kindTxn kind = 9 // TxnChange

// TxnState is a transactional id's state, as Kafka names and reports it.
type TxnState string

// States of a transactional id (KIP-98). Dead is never kept: it is the change
// that forgets an id.
const (
	TxnEmpty          TxnState = "Empty"          // no transaction yet
	TxnOngoing        TxnState = "Ongoing"        // partitions or offsets were added
	TxnPrepareCommit  TxnState = "PrepareCommit"  // decided; markers are being written
	TxnPrepareAbort   TxnState = "PrepareAbort"   // decided; markers are being written
	TxnCompleteCommit TxnState = "CompleteCommit" // over, offsets included
	TxnCompleteAbort  TxnState = "CompleteAbort"  // over
	TxnDead           TxnState = "Dead"
)

// Ending reports whether the outcome is decided and not everywhere yet.
func (s TxnState) Ending() bool { return s == TxnPrepareCommit || s == TxnPrepareAbort }

// Open reports whether partitions and offsets belong to a transaction.
func (s TxnState) Open() bool { return s == TxnOngoing || s.Ending() }

// Txn is what is known of one transactional id, but for the contents of its
// open transaction. Ids and epochs that are not there are -1.
type Txn struct {
	ID         string   `json:"i"`
	State      TxnState `json:"s"`
	ProducerID int64    `json:"p"`
	Epoch      int16    `json:"e"`
	// LastEpoch is the epoch before, if the same client asked for the present
	// one: a request that it repeats is recognised by it (KIP-360).
	LastEpoch int16 `json:"l"`
	// PrevProducerID is the producer id whose epochs were used up before this
	// one; NextProducerID the one that follows when the transaction is over.
	PrevProducerID int64 `json:"v"`
	NextProducerID int64 `json:"n"`
	TimeoutMs      int32 `json:"t"`
	StartMs        int64 `json:"b"` // of the open transaction, Unix ms, for display only
	UpdateMs       int64 `json:"u"`
}

// TxnPartition is one partition, of one life of a topic's name.
type TxnPartition struct {
	Topic     ID    `json:"t"`
	Partition int32 `json:"p"`
}

// TxnOffsets are offsets of a group that wait for the end of a transaction.
// A group without any was announced only.
type TxnOffsets struct {
	Group   string   `json:"g"`
	Offsets []Offset `json:"o,omitempty"`
}

// TxnMarker is the end of a transaction in one partition.
type TxnMarker struct {
	TxnPartition
	ProducerID int64 `json:"i"`
	Epoch      int16 `json:"e"`
	Commit     bool  `json:"c"`
}

// TxnChange is one transition of a transactional id. Partitions and offsets
// are added to its open transaction; a state that is not open ends that, and
// CompleteCommit makes its offsets the groups' own.
type TxnChange struct {
	Txn
	Partitions []TxnPartition `json:"a,omitempty"`
	Groups     []TxnOffsets   `json:"o,omitempty"`
	// Owed are markers that could not be written, as the partition takes no
	// writes until the broker starts anew; Paid have been written since. A
	// change without an id has only these.
	Owed []TxnMarker `json:"w,omitempty"`
	Paid []TxnMarker `json:"x,omitempty"`
}

// txn is a transactional id in the state.
type txn struct {
	Txn
	parts  map[TxnPartition]struct{}
	groups map[string]map[partition]Offset
}

// txns is the part of the state that this file keeps.
type txns struct {
	of map[string]*txn
	// pending are, by group and partition, the ids that have an offset there.
	pending map[string]map[partition][]string
	owed    map[TxnMarker]struct{}
	parts   int // of all open transactions
}

func newTxns() txns {
	return txns{of: map[string]*txn{}, pending: map[string]map[partition][]string{}, owed: map[TxnMarker]struct{}{}}
}

func (s *state) putTxn(c TxnChange) {
	for _, m := range c.Owed {
		s.txns.owed[m] = struct{}{}
	}
	for _, m := range c.Paid {
		delete(s.txns.owed, m)
	}
	if c.ID == "" {
		return
	}
	t := s.txns.of[c.ID]
	if t == nil {
		t = &txn{}
		s.txns.of[c.ID] = t
	}
	t.Txn = c.Txn
	if t.State.Open() {
		s.addToTxn(t, c)
		return
	}
	s.endTxn(t)
	if t.State == TxnDead {
		delete(s.txns.of, c.ID)
	}
}

func (s *state) addToTxn(t *txn, c TxnChange) {
	if t.parts == nil {
		t.parts, t.groups = map[TxnPartition]struct{}{}, map[string]map[partition]Offset{}
	}
	s.txns.parts -= len(t.parts)
	for _, p := range c.Partitions {
		t.parts[p] = struct{}{}
	}
	s.txns.parts += len(t.parts)
	for _, g := range c.Groups {
		if t.groups[g.Group] == nil {
			t.groups[g.Group] = map[partition]Offset{}
			s.offsetBytes += groupWeight(g.Group)
		}
		for _, o := range g.Offsets {
			at := partition{o.Topic, o.Partition}
			old, again := t.groups[g.Group][at]
			if !again {
				s.txns.addPending(g.Group, at, t.ID)
			}
			t.groups[g.Group][at] = o
			s.offsetBytes += o.weight() - old.weight()
		}
	}
}

// groupWeight is what a transaction's group takes in memory, roughly.
func groupWeight(group string) int64 { return int64(200 + len(group)) }

// endTxn takes the transaction's contents away, into the groups' offsets if
// it was committed.
func (s *state) endTxn(t *txn) {
	groups := t.groups
	s.txns.parts -= len(t.parts)
	t.parts, t.groups = nil, nil
	for group, offs := range groups {
		s.offsetBytes -= groupWeight(group)
		for at, o := range offs {
			s.txns.dropPending(group, at, t.ID)
			s.offsetBytes -= o.weight()
		}
		if t.State == TxnCompleteCommit && len(offs) > 0 {
			s.commit(commit{Group: group, Offsets: sortedOffsets(offs)})
		}
	}
}

func (x *txns) addPending(group string, at partition, id string) {
	if x.pending[group] == nil {
		x.pending[group] = map[partition][]string{}
	}
	x.pending[group][at] = append(x.pending[group][at], id)
}

func (x *txns) dropPending(group string, at partition, id string) {
	ids := slices.DeleteFunc(x.pending[group][at], func(s string) bool { return s == id })
	if len(ids) > 0 {
		x.pending[group][at] = ids
		return
	}
	delete(x.pending[group], at)
	if len(x.pending[group]) == 0 {
		delete(x.pending, group)
	}
}

// supersede forgets offsets that wait for the end of a transaction, because
// something newer was said about the partition, or it is gone.
func (s *state) supersede(group string, at partition) {
	for _, id := range s.txns.pending[group][at] {
		offs := s.txns.of[id].groups[group]
		s.offsetBytes -= offs[at].weight()
		delete(offs, at)
	}
	if s.txns.pending[group] != nil {
		delete(s.txns.pending[group], at)
		if len(s.txns.pending[group]) == 0 {
			delete(s.txns.pending, group)
		}
	}
}

// supersedeCommit is for a plain commit, which is newer than what waits.
func (s *state) supersedeCommit(c commit) {
	if len(s.txns.pending[c.Group]) == 0 {
		return
	}
	for _, o := range c.Offsets {
		s.supersede(c.Group, partition{o.Topic, o.Partition})
	}
	for _, o := range c.Deleted {
		s.supersede(c.Group, partition{o.Topic, o.Partition})
	}
}

func (s *state) supersedeGroup(group string) {
	for at := range s.txns.pending[group] {
		s.supersede(group, at)
	}
}

// supersedeTopic takes a topic that is gone out of all transactions.
func (s *state) supersedeTopic(t Topic) {
	for group, waiting := range s.txns.pending {
		for p := range waiting {
			if p.topic == t.Name {
				s.supersede(group, p)
			}
		}
	}
	gone := func(p TxnPartition) bool { return p.Topic == t.ID }
	for _, x := range s.txns.of {
		s.txns.parts -= len(x.parts)
		maps.DeleteFunc(x.parts, func(p TxnPartition, _ struct{}) bool { return gone(p) })
		s.txns.parts += len(x.parts)
	}
	maps.DeleteFunc(s.txns.owed, func(m TxnMarker, _ struct{}) bool { return gone(m.TxnPartition) })
}

// txnSnapshotBatch is how many partitions or markers one change of a snapshot
// holds; for offsets it is snapshotBatch.
const txnSnapshotBatch = 10000

func (s *state) snapshotTxns(emit func([]byte)) {
	put := func(c TxnChange) { emit(encode(kindTxn, c)) }
	for _, id := range slices.Sorted(maps.Keys(s.txns.of)) {
		t := s.txns.of[id]
		put(TxnChange{Txn: t.Txn})
		for parts := range slices.Chunk(sortedParts(t.parts), txnSnapshotBatch) {
			put(TxnChange{Txn: t.Txn, Partitions: parts})
		}
		for _, group := range slices.Sorted(maps.Keys(t.groups)) {
			offs := sortedOffsets(t.groups[group])
			put(TxnChange{Txn: t.Txn, Groups: []TxnOffsets{{group, offs[:min(len(offs), snapshotBatch)]}}})
			for more := range slices.Chunk(offs[min(len(offs), snapshotBatch):], snapshotBatch) {
				put(TxnChange{Txn: t.Txn, Groups: []TxnOffsets{{group, more}}})
			}
		}
	}
	for owed := range slices.Chunk(sortedMarkers(s.txns.owed), txnSnapshotBatch) {
		put(TxnChange{Owed: owed})
	}
}

func compareParts(a, b TxnPartition) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
}

func sortedParts(m map[TxnPartition]struct{}) []TxnPartition {
	return slices.SortedFunc(maps.Keys(m), compareParts)
}

func sortedMarkers(m map[TxnMarker]struct{}) []TxnMarker {
	return slices.SortedFunc(maps.Keys(m), func(a, b TxnMarker) int {
		return cmp.Or(compareParts(a.TxnPartition, b.TxnPartition), cmp.Compare(a.ProducerID, b.ProducerID), cmp.Compare(a.Epoch, b.Epoch))
	})
}
