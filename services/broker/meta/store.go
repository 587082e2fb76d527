package meta

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/broker/journal"
	"github.com/waysideos/wayside/services/vfs"
)

// pidBlock is how many producer ids one durable change sets aside. What is
// left of a block at a restart is never used.
const pidBlock = 1000

// Store is the state with its journal. Reads never wait for the disk; writes
// return when they are durable. Safe for concurrent use.
type Store struct {
	s *state
	j *journal.Journal

	pidMu   sync.Mutex
	nextPID int64
	endPID  int64
}

// Open replays the state kept in dir, gives the cluster its id on the first
// start, and raises the leader epoch.
func Open(fsys vfs.FS, dir string) (*Store, error) { return OpenSized(fsys, dir, 0) }

// OpenSized is Open with the size of the journal, in bytes, at which the state
// is written anew; 0 means journal.CompactAt.
func OpenSized(fsys vfs.FS, dir string, compactAt int64) (*Store, error) {
	s := newState()
	j, err := journal.Open(fsys, dir, s, compactAt)
	if err != nil {
		return nil, fmt.Errorf("open broker state: %w", err)
	}
	st := &Store{s: s, j: j}
	if err := st.begin(); err != nil {
		j.Close()
		return nil, fmt.Errorf("begin broker state: %w", err)
	}
	return st, nil
}

func (st *Store) begin() error {
	if len(st.j.Lost()) > 0 { // it is in the snapshot too, if there was room for one
		if err := st.j.Append(encode(kindLoss, st.s.loss)); err != nil {
			return err
		}
	}
	if st.s.cluster == "" {
		if err := st.j.Append(encode(kindCluster, newClusterID())); err != nil {
			return err
		}
	}
	return st.raiseEpoch(st.s.epoch)
}

func (st *Store) raiseEpoch(last int32) error {
	return st.j.Append(encode(kindEpoch, nextEpoch(last, time.Now(), mrand.Int32N(epochChance))))
}

const (
	epochZero   = 1_704_067_200 // 2024-01-01, Unix seconds: the epochs of a clock end in 2092
	epochChance = 256
)

// nextEpoch is the leader epoch of a start: above the last one, and one that no
// other start from a copy of the same disk has. By that a reader tells an old
// copy that was put to use from the log that it knows (KIP-320), which after as
// many starts would have the same epochs if they were counted. So it is the
// time, in seconds, and some chance, for the clock may not be set yet.
func nextEpoch(last int32, now time.Time, chance int32) int32 {
	next := max(int64(last)+1, now.Unix()-epochZero) + int64(chance)
	if next > math.MaxInt32 { // the clock is wild, or it is 2092
		next = min(int64(last)+1, math.MaxInt32)
	}
	return int32(next)
}

// newClusterID has the shape that Kafka gives its own: 22 characters of
// URL-safe base64.
func newClusterID() string {
	id := NewID()
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// NewID returns a random (version 4) UUID.
func NewID() ID {
	var id ID
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// ClusterID is the same for the life of the data directory.
func (st *Store) ClusterID() string {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.cluster
}

// Epoch is the leader epoch of this start.
func (st *Store) Epoch() int32 {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return st.s.epoch
}

// Topics returns all topics, by name.
func (st *Store) Topics() []Topic {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedTopics(st.s.topics)
}

// Deleting returns deleted topics whose files may still be there.
func (st *Store) Deleting() []Topic {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedTopics(st.s.deleting)
}

// PutTopic makes or alters a topic.
func (st *Store) PutTopic(t Topic) error { return st.j.Append(encode(kindTopic, t)) }

// DeleteTopic moves a topic to Deleting and drops its committed offsets.
func (st *Store) DeleteTopic(id ID) error {
	return st.j.Append(encode(kindDeleteTopic, topicRef{id}))
}

// ForgetTopic says that a deleted topic's files are gone.
func (st *Store) ForgetTopic(id ID) error {
	return st.j.Append(encode(kindForgetTopic, topicRef{id}))
}

// Commit records a group's offsets. A group exists from its first commit.
func (st *Store) Commit(group string, offsets []Offset) error {
	return st.j.Append(encode(kindOffsets, commit{Group: group, Offsets: offsets}))
}

// DeleteGroup forgets a group's offsets.
func (st *Store) DeleteGroup(group string) error {
	return st.j.Append(encode(kindDeleteGroup, group))
}

// Offset returns one committed offset of a group.
func (st *Store) Offset(group, topic string, part int32) (Offset, bool) {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	o, ok := st.s.offsets[group][partition{topic, part}]
	return o, ok
}

// Offsets returns all committed offsets of a group, by topic and partition.
func (st *Store) Offsets(group string) []Offset {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return sortedOffsets(st.s.offsets[group])
}

// HasGroup reports whether a group has ever committed.
func (st *Store) HasGroup(group string) bool {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	_, ok := st.s.offsets[group]
	return ok
}

// Groups returns the groups that have committed offsets, by name.
func (st *Store) Groups() []string {
	st.s.mu.RLock()
	defer st.s.mu.RUnlock()
	return slices.Sorted(maps.Keys(st.s.offsets))
}

// NextProducerID returns a producer id that was never returned before.
func (st *Store) NextProducerID() (int64, error) {
	st.pidMu.Lock()
	defer st.pidMu.Unlock()
	if st.nextPID == st.endPID {
		st.s.mu.RLock()
		next := st.s.nextPID
		st.s.mu.RUnlock()
		if err := st.j.Append(encode(kindProducerIDs, next+pidBlock)); err != nil {
			return 0, err
		}
		st.nextPID, st.endPID = next, next+pidBlock
	}
	st.nextPID++
	return st.nextPID - 1, nil
}

// Err is the reason why no change is taken any more; nil when all is well.
func (st *Store) Err() error { return st.j.Err() }

// Cut is how many bytes of a torn tail were dropped at Open.
func (st *Store) Cut() int64 { return st.j.Cut() }

// Repairs are what Open had to say of damage that it got over.
func (st *Store) Repairs() []string { return st.j.Repairs() }

// Close waits for changes under way.
func (st *Store) Close() error { return st.j.Close() }

func sortedTopics(m map[ID]Topic) []Topic {
	return slices.SortedFunc(maps.Values(m), func(a, b Topic) int { return cmp.Compare(a.Name, b.Name) })
}

func sortedOffsets(m map[partition]Offset) []Offset {
	return slices.SortedFunc(maps.Values(m), func(a, b Offset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
