package store

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
)

// What an idempotent producer (KIP-98) can be told.
var (
	ErrOutOfOrder    = errors.New("out of order sequence number")
	ErrProducerEpoch = errors.New("producer epoch is older than the newest seen")
)

// window is how many batches a producer may have in flight; as many can be
// sent again and are recognised.
const window = 5

// maxProducers is how many producer ids a partition remembers; beyond it the
// longest silent are forgotten, which costs them only the recognition of what
// they send again.
const maxProducers = 1000

// producer is what is known of one producer id in one partition.
type producer struct {
	ID      int64       `json:"id"`
	Epoch   int16       `json:"e"`
	Batches []sequenced `json:"b"` // newest last, at most window
	SeenMs  int64       `json:"t"` // wall clock of its last batch, for expiry
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
	p := ps[h.ProducerID]
	if h.ProducerID < 0 || p == nil {
		return nil, nil // Kafka takes any first sequence: older data may be gone
	}
	switch {
	case h.ProducerEpoch < p.Epoch:
		return nil, ErrProducerEpoch
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
	if n := len(p.Batches); n > 0 && h.BaseSequence != addSequence(p.Batches[n-1].Last, 1) {
		return nil, ErrOutOfOrder
	}
	return nil, nil
}

// note remembers a batch that is in the log at h.BaseOffset.
func (ps producers) note(h Header, nowMs int64) {
	if h.ProducerID < 0 {
		return
	}
	p := ps[h.ProducerID]
	if p == nil || p.Epoch != h.ProducerEpoch {
		p = &producer{ID: h.ProducerID, Epoch: h.ProducerEpoch}
		ps[h.ProducerID] = p
		if len(ps) > maxProducers*5/4 {
			ps.shrink()
		}
	}
	p.SeenMs = nowMs
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
	ids := slices.SortedFunc(maps.Keys(ps), func(a, b int64) int { return cmp.Compare(last(a), last(b)) })
	for _, id := range ids[:len(ids)-maxProducers] {
		delete(ps, id)
	}
}

// expire forgets producers that were last seen before ms.
func (ps producers) expire(ms int64) {
	maps.DeleteFunc(ps, func(_ int64, p *producer) bool { return p.SeenMs < ms })
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
