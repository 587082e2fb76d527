// Package meta is the broker's state that is not records: topics, committed
// offsets of consumer groups, how far share groups have come, the cluster's
// id, and what must never be used twice (leader epochs, producer ids). Every
// change is durable before it is seen.
package meta

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// kind is the first byte of a change. The second is the version of the JSON
// that follows; fields may be added without raising it.
type kind byte

const (
	kindCluster     kind = 1 // Cluster
	kindEpoch       kind = 2 // int32: leader epoch of this start
	kindTopic       kind = 3 // Topic: made or altered
	kindDeleteTopic kind = 4 // topicRef: gone for clients, its files remain
	kindForgetTopic kind = 5 // topicRef: its files are gone too
	kindOffsets     kind = 6 // commit
	kindDeleteGroup kind = 7 // string
	kindProducerIDs kind = 8 // int64: the first id not handed out
)

// kindVersion is the newest version of every kind's JSON.
const kindVersion = 1

// ID is a topic's UUID; it is never used again.
type ID [16]byte

// Topic is one topic.
type Topic struct {
	Name       string            `json:"name"`
	ID         ID                `json:"id"`
	Partitions int32             `json:"partitions"`
	Config     map[string]string `json:"config,omitempty"` // as set by a client or the profile
}

// Offset is a group's committed position in one partition.
type Offset struct {
	Topic       string `json:"t"`
	Partition   int32  `json:"p"`
	Offset      int64  `json:"o"`
	LeaderEpoch int32  `json:"e"` // -1 if the client gave none
	Metadata    string `json:"m,omitempty"`
	CommitMs    int64  `json:"c"` // Unix milliseconds, by the box's clock
}

type partition struct {
	topic string
	num   int32
}

type commit struct {
	Group   string   `json:"g"`
	Offsets []Offset `json:"o"`
	// Deleted are positions taken back (OffsetDelete).
	Deleted []Offset `json:"d,omitempty"`
}

type topicRef struct {
	ID ID `json:"id"`
}

// state is the machine behind the journal.
type state struct {
	mu       sync.RWMutex
	cluster  string
	epoch    int32
	nextPID  int64
	topics   map[ID]Topic
	deleting map[ID]Topic
	offsets  map[string]map[partition]Offset
	// offsetBytes is what offsets take in memory, roughly.
	offsetBytes int64
	configs     configs
	groups      groups
	shares      shares
	// topicsVersion counts changes of topics since the start.
	topicsVersion uint64
	txns          txns
	security
	loss *Loss // the last; nil: none
	// unknown are changes of kinds that a later release made; an older
	// release, after a fallback, carries them through its snapshots.
	unknown [][]byte
}

func newState() *state {
	return &state{topics: map[ID]Topic{}, deleting: map[ID]Topic{}, offsets: map[string]map[partition]Offset{},
		txns: newTxns(), security: newSecurity()}
}

func encode(k kind, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode change %d: %v", k, err)) // our own plain structs
	}
	return append([]byte{byte(k), kindVersion}, b...)
}

// Apply implements journal.Machine.
func (s *state) Apply(p []byte) error {
	if len(p) < 2 {
		return fmt.Errorf("change of %d bytes is too short", len(p))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, body := kind(p[0]), p[2:]
	apply, known := appliers[k]
	if !known || p[1] > kindVersion {
		s.unknown = append(s.unknown, slices.Clone(p))
		return nil
	}
	if err := apply(s, body); err != nil {
		return fmt.Errorf("change of kind %d: %v", k, err)
	}
	return nil
}

// appliers make one change each, with the state locked.
var appliers = map[kind]func(*state, []byte) error{
	kindCluster:     func(s *state, b []byte) error { return json.Unmarshal(b, &s.cluster) },
	kindEpoch:       func(s *state, b []byte) error { return json.Unmarshal(b, &s.epoch) },
	kindProducerIDs: func(s *state, b []byte) error { return json.Unmarshal(b, &s.nextPID) },
	kindTopic: with(func(s *state, t Topic) {
		s.topicsVersion++
		s.topics[t.ID] = t
	}),
	kindDeleteTopic: with(func(s *state, r topicRef) {
		t, ok := s.topics[r.ID]
		if !ok {
			return
		}
		s.topicsVersion++
		delete(s.topics, r.ID)
		s.deleting[r.ID] = t
		for _, offs := range s.offsets {
			maps.DeleteFunc(offs, func(p partition, o Offset) bool {
				if p.topic == t.Name {
					s.offsetBytes -= o.weight()
				}
				return p.topic == t.Name
			})
		}
		s.supersedeTopic(t)
		s.shares.dropTopic(t.ID)
	}),
	kindForgetTopic: with(func(s *state, r topicRef) { delete(s.deleting, r.ID) }),
	kindOffsets: with(func(s *state, c commit) {
		s.commit(c)
		s.supersedeCommit(c)
	}),
	kindDeleteGroup: with(func(s *state, g string) {
		for _, o := range s.offsets[g] {
			s.offsetBytes -= o.weight()
		}
		delete(s.offsets, g)
		delete(s.groups, g)
		s.supersedeGroup(g)
	}),
	kindTxn:        with((*state).putTxn),
	kindGroup:      with((*state).putGroup),
	kindShares:     with((*state).putShares),
	kindConfig:     with((*state).putConfig),
	kindQuotas:     with((*state).putQuotas),
	kindPutACLs:    with((*state).putACLs),
	kindDeleteACLs: with((*state).deleteACLs),
	kindScrams:     with((*state).alterScrams),
	kindLoss:       with((*state).putLoss),
	kindFeatures:   with(func(s *state, f features) { s.configs.features = f }),
}

func with[T any](do func(*state, T)) func(*state, []byte) error {
	return func(s *state, b []byte) error {
		var v T
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		do(s, v)
		return nil
	}
}

func (s *state) commit(c commit) {
	offs := s.offsets[c.Group]
	if offs == nil {
		offs = map[partition]Offset{}
		s.offsets[c.Group] = offs
	}
	for _, o := range c.Offsets {
		s.offsetBytes += o.weight() - offs[partition{o.Topic, o.Partition}].weight()
		offs[partition{o.Topic, o.Partition}] = o
	}
	for _, o := range c.Deleted {
		s.offsetBytes -= offs[partition{o.Topic, o.Partition}].weight()
		delete(offs, partition{o.Topic, o.Partition})
	}
}

// snapshotBatch is how many offsets one change of a snapshot holds. With the
// longest metadata, each byte of it escaped, they must fit frame.MaxPayload.
const snapshotBatch = 500

// Snapshot implements journal.Machine. Sorted, so that equal states make
// equal files.
func (s *state) Snapshot(emit func([]byte)) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.snapshotLoss(emit)
	emit(encode(kindCluster, s.cluster))
	emit(encode(kindEpoch, s.epoch))
	emit(encode(kindProducerIDs, s.nextPID))
	for _, t := range sortedTopics(s.topics) {
		emit(encode(kindTopic, t))
	}
	for _, t := range sortedTopics(s.deleting) {
		emit(encode(kindTopic, t))
		emit(encode(kindDeleteTopic, topicRef{t.ID}))
	}
	for _, group := range slices.Sorted(maps.Keys(s.offsets)) {
		offs := sortedOffsets(s.offsets[group])
		emit(encode(kindOffsets, commit{Group: group, Offsets: offs[:min(len(offs), snapshotBatch)]}))
		for len(offs) > snapshotBatch {
			offs = offs[snapshotBatch:]
			emit(encode(kindOffsets, commit{Group: group, Offsets: offs[:min(len(offs), snapshotBatch)]}))
		}
	}
	s.snapshotTxns(emit)
	s.snapshotGroups(emit)
	s.snapshotShares(emit)
	s.snapshotConfigs(emit)
	s.snapshotSecurity(emit)
	for _, p := range s.unknown {
		emit(p)
	}
	return nil
}
