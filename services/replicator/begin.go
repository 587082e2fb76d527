package replicator

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// begin starts partitions at their positions: the source range is checked,
// the topics are there at the destination, then they are fetched.
func (l *link) begin(ctx context.Context, due []*partition) {
	logs, err := l.sourceLogs(ctx, due)
	if err != nil {
		l.srcFailed(err)
		l.postpone(due, nil)
		return
	}
	l.mu.Lock()
	dst := l.dst
	l.mu.Unlock()
	ready, grown, err := l.ensure(ctx, kadm.NewClient(dst), due)
	if err != nil {
		l.dstFailed(err)
		l.postpone(due, nil)
		return
	}
	if grown { // a new producer, which knows the new partitions
		l.opened = false
	}
	l.dstFailed(nil)
	slices.SortFunc(due, func(a, b *partition) int { return cmp.Compare(b.lane.rank, a.lane.rank) }) // a first lane before its second
	var placed []*partition
	for _, p := range due {
		if err := ready[p.to].err; err != nil {
			l.postpone([]*partition{p}, err)
			continue
		}
		log, ok1 := logs[p]
		end, ok2 := ready[p.to].end[p.num]
		if !ok1 || !ok2 { // a new topic takes a moment
			l.postpone([]*partition{p}, nil)
			continue
		}
		if !l.place(p, log, end) {
			l.postpone([]*partition{p}, nil)
			continue
		}
		placed = append(placed, p)
	}
	// Without transactions, where a partition begins is committed first, so
	// that a crash before its first regular commit is counted too.
	if !l.ledger.exact {
		if err := l.mirror(ctx, false); err != nil {
			l.state.box(err)
			l.postpone(placed, nil)
			return
		}
	}
	l.activate(slices.DeleteFunc(placed, (*partition).rests))
}

// activate fetches partitions from their positions on.
func (l *link) activate(ps []*partition) {
	offsets := map[*lane]map[string]map[int32]kgo.Offset{}
	for _, p := range ps {
		l.halt(p.lane) // what was fetched from another offset is dropped while p is not active
	}
	l.mu.Lock()
	for _, p := range ps {
		p.whole = p.lane.whole != nil && !p.opened
		p.active, p.err, p.read, p.seen, p.win = true, nil, p.next, p.next, nil
		if offsets[p.lane] == nil {
			offsets[p.lane] = map[string]map[int32]kgo.Offset{}
		}
		if offsets[p.lane][p.topic] == nil {
			offsets[p.lane][p.topic] = map[int32]kgo.Offset{}
		}
		if !p.whole {
			offsets[p.lane][p.topic][p.num] = kgo.NewOffset().At(p.next)
		}
	}
	l.mu.Unlock()
	for n, at := range offsets {
		for topic, nums := range at {
			n.src.RemoveConsumePartitions(map[string][]int32{topic: slices.Collect(maps.Keys(nums))})
		}
		n.src.AddConsumePartitions(at)
	}
	for _, p := range ps {
		if p.whole {
			p.lane.whole.add(p)
		}
	}
}

// postpone sets the next try of partitions that could not begin. Without an
// error of their own, the link's says why.
func (l *link) postpone(ps []*partition, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range ps {
		p.fails++
		p.retry = time.Now().Add(l.pace.backoff(p.fails))
		if err != nil {
			p.err = fmt.Errorf("%s/%d: %v", p.topic, p.num, err)
		}
	}
}
