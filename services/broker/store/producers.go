package store

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"time"
)

// What an idempotent or transactional producer (KIP-98) can be told.
var (
	ErrOutOfOrder       = errors.New("out of order sequence number")
	ErrProducerEpoch    = errors.New("producer epoch is older than the newest seen")
	ErrCoordinatorEpoch = errors.New("transaction coordinator epoch is older than the newest seen")
	ErrTransaction      = errors.New("record batch does not fit its producer's transaction")
)

// window is how many batches a producer may have in flight; as many can be
// sent again and are recognised.
const window = 5

// maxProducers is how many producer ids a partition remembers; beyond it the
// longest silent are forgotten, which costs them only the recognition of what
// they send again. One with an open transaction is never forgotten.
const maxProducers = 1000

// producerExpiryMs is how long an idle producer id is remembered (Kafka's
// producer.id.expiration.ms).
const producerExpiryMs = 24 * 3600 * 1000

// producer is what is known of one producer id in one partition.
type producer struct {
	ID      int64       `json:"id"`
	Epoch   int16       `json:"e"`
	Batches []sequenced `json:"b"` // of this epoch, newest last, at most window
	SeenMs  int64       `json:"t"` // Log.age at its last batch, for expiry
	LastMs  int64       `json:"m,omitempty"`
	Coord   *int32      `json:"c,omitempty"` // coordinator epoch of its last marker
	Txn     *int64      `json:"x,omitempty"` // first offset of its open transaction
}

// sequenced is one batch of a producer.
type sequenced struct {
	First int32 `json:"f"`
	Last  int32 `json:"l"`
	Base  int64 `json:"o"`
	Count int32 `json:"n"`
}

// producers holds the idempotent producers of a partition.
type producers map[int64]*producer

// check decides on a batch: new (nil, nil), sent again (the one stored
// before), or wrong.
func (ps producers) check(h Header) (*sequenced, error) {
	if h.ProducerID < 0 {
		return nil, nil
	}
	p := ps[h.ProducerID]
	switch {
	case p == nil:
		return nil, nil // Kafka takes any first sequence: older data may be gone
	case h.ProducerEpoch < p.Epoch:
		return nil, ErrProducerEpoch
	case p.Txn != nil && !h.Transactional():
		return nil, ErrTransaction
	case h.ProducerEpoch > p.Epoch:
		if h.BaseSequence != 0 {
			return nil, ErrOutOfOrder
		}
		return nil, nil
	}
	last := addSequence(h.BaseSequence, h.LastOffsetDelta)
	for i := range p.Batches {
		if b := &p.Batches[i]; b.First == h.BaseSequence && b.Last == last {
			return b, nil
		}
	}
	// An epoch that a marker began (KIP-890) has no batches yet.
	var next int32
	if n := len(p.Batches); n > 0 {
		next = addSequence(p.Batches[n-1].Last, 1)
	}
	if h.BaseSequence != next {
		return nil, ErrOutOfOrder
	}
	return nil, nil
}

// checkMarker decides whether a coordinator may end a producer's transaction.
// The epoch it ended with before is taken again: the coordinator repeats a
// marker after a crash.
func (ps producers) checkMarker(id int64, epoch int16, coordinator int32) error {
	p := ps[id]
	switch {
	case p == nil:
		return nil
	case epoch < p.Epoch:
		return ErrProducerEpoch
	case p.Coord != nil && coordinator < *p.Coord:
		return ErrCoordinatorEpoch
	}
	return nil
}

// at returns a producer as of an epoch. A new epoch begins without batches; a
// transaction stays open across it, until its marker.
func (ps producers) at(id int64, epoch int16) *producer {
	p := ps[id]
	if p == nil {
		if len(ps) >= maxProducers*5/4 {
			ps.shrink() // before p is one of them
		}
		p = &producer{ID: id, Epoch: epoch}
		ps[id] = p
	}
	if p.Epoch != epoch {
		p.Epoch, p.Batches = epoch, p.Batches[:0]
	}
	return p
}

// note remembers a batch that is in the log at h.BaseOffset.
func (p *producer) note(h Header) {
	p.LastMs = h.MaxTimestamp
	if len(p.Batches) == window {
		p.Batches = slices.Delete(p.Batches, 0, 1)
	}
	p.Batches = append(p.Batches, sequenced{
		First: h.BaseSequence, Last: addSequence(h.BaseSequence, h.LastOffsetDelta),
		Base: h.BaseOffset, Count: h.LastOffsetDelta + 1,
	})
}

// shrink forgets the longest silent. Base offsets tell the order better than
// a clock does.
func (ps producers) shrink() {
	last := func(id int64) int64 {
		if b := ps[id].Batches; len(b) > 0 {
			return b[len(b)-1].Base
		}
		return math.MaxInt64 // just made
	}
	var ids []int64
	for id, p := range ps {
		if p.Txn == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b int64) int { return cmp.Compare(last(a), last(b)) })
	for _, id := range ids[:min(len(ids), len(ps)-maxProducers)] {
		delete(ps, id)
	}
}

// expire forgets producers that were last seen before ms.
func (ps producers) expire(ms int64) {
	maps.DeleteFunc(ps, func(_ int64, p *producer) bool { return p.Txn == nil && p.SeenMs < ms })
}

// maxTick bounds what one look at the clock adds to a log's age. Time that
// the broker did not run is not counted either: a clock that jumps forgets
// nobody.
const maxTick = time.Hour

// expireProducers forgets the producers that have been silent for a day of
// the log's age. It is called every few minutes. l.mu is held.
func (l *Log) expireProducers() {
	l.prods.expire(l.tick() - producerExpiryMs)
}

// startAge begins the log's age where the checkpoint left it. It looks like
// Unix ms, which is what older releases take it for.
func (l *Log) startAge() {
	l.ticked = l.opts.Now()
	l.age = l.saved.Age
	for _, p := range l.prods {
		l.age = max(l.age, p.SeenMs)
	}
	if l.opts.Age != nil {
		l.keep.ageFrom = max(0, l.age-l.opts.Age())
		l.tick()
	} else if l.age == 0 {
		l.age = l.ticked.UnixMilli()
	}
}

// snapshot copies the state, by id.
func (ps producers) snapshot() []producer {
	out := make([]producer, 0, len(ps))
	for _, id := range slices.Sorted(maps.Keys(ps)) {
		p := *ps[id]
		p.Batches = slices.Clone(p.Batches)
		out = append(out, p)
	}
	return out
}

// addSequence counts as producers do: after the largest int32 comes 0.
func addSequence(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & 0x7fffffff)
}
