package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// discover finds topics and partitions the link should carry and begins those
// that are new or due for another try. The source comes first, so that the
// lag is known while the destination is away.
func (l *link) discover(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if time.Since(l.discovered) >= l.pace.discover {
		err := l.findPartitions(ctx)
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return
		}
		l.state.source(err)
		if err != nil {
			return
		}
		l.discovered = time.Now()
	}
	var due []*partition
	for _, p := range l.parts {
		if !p.active && time.Now().After(p.retry) {
			due = append(due, p)
		}
	}
	if len(due) > 0 {
		l.begin(ctx, due)
	}
}

// findPartitions brings l.parts in line with the source.
func (l *link) findPartitions(ctx context.Context) error {
	topics, err := l.srcAdm.ListTopicsWithInternal(ctx)
	if err != nil {
		return fmt.Errorf("list topics of the box's broker: %v", err)
	}
	found := map[key]bool{}
	for _, t := range topics {
		for num := range t.Partitions {
			if t.Err == nil && l.rules.match(t.Topic) {
				found[key{t.Topic, num}] = true
			}
		}
	}
	for k := range l.parts {
		if !found[k] {
			l.forget(k.topic)
		}
	}
	var added []key
	for k := range found {
		if l.parts[k] == nil {
			added = append(added, k)
		}
	}
	if len(added) == 0 {
		return nil
	}
	known, err := l.positions.load(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range added {
		p := &partition{key: k, position: position{next: -1, dest: -1}, fresh: true}
		p.saved = p.position
		if at, ok := known[k]; ok {
			p.position, p.saved = at, at
		}
		l.parts[k] = p
	}
	return nil
}

// forget drops a topic that is gone from the source, or has lost partitions:
// it was made anew.
func (l *link) forget(topic string) {
	l.log.Info("topic is gone from the box's broker", "topic", topic)
	l.src.PurgeTopicsFromConsuming(topic)
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.parts, func(k key, _ *partition) bool { return k.topic == topic })
}

// begin starts partitions at their positions: the source range is checked,
// the topics are there at the destination, then they are fetched.
func (l *link) begin(ctx context.Context, due []*partition) {
	names := topicsOf(due)
	start, err1 := l.srcAdm.ListStartOffsets(ctx, names...)
	end, err2 := l.srcAdm.ListEndOffsets(ctx, names...)
	if err := errors.Join(err1, err2); err != nil {
		l.state.source(fmt.Errorf("list offsets of the box's broker: %v", err))
		return
	}
	ready, err := l.ensure(ctx, names)
	if err == nil {
		err = l.restartProducer()
	}
	if err != nil {
		l.state.failed(err)
		l.postpone(due, nil)
		return
	}
	l.state.ok()
	var placed []*partition
	for _, p := range due {
		dest := l.rules.destination(p.topic)
		if err := ready[dest].err; err != nil {
			l.postpone([]*partition{p}, err)
			continue
		}
		from, ok1 := start.Lookup(p.topic, p.num)
		to, ok2 := end.Lookup(p.topic, p.num)
		at, ok3 := ready[dest].end[p.num]
		if !ok1 || !ok2 || !ok3 || from.Err != nil || to.Err != nil { // a new topic takes a moment
			l.postpone([]*partition{p}, nil)
			continue
		}
		l.place(p, from.Offset, to.Offset)
		l.compare(p, at)
		placed = append(placed, p)
	}
	// Where a partition begins is committed first, so that a crash before its
	// first regular commit is counted too.
	if err := l.commit(ctx, placed); err != nil {
		l.state.source(err)
		l.postpone(placed, nil)
		return
	}
	l.activate(placed)
}

// restartProducer replaces a client that has failed records, or that knows
// fewer partitions than there are. A new one has no sequence numbers to
// disagree about and no stale topic ids; nothing is on its way between two
// lots, so nothing is lost by it.
func (l *link) restartProducer() error {
	if !l.replaceDst {
		return nil
	}
	dst, err := l.newDst()
	if err != nil {
		return err
	}
	l.dst.Close()
	l.mu.Lock()
	l.dst, l.replaceDst = dst, false
	l.mu.Unlock()
	return nil
}

// place puts a partition's position inside the source's log.
func (l *link) place(p *partition, start, end int64) {
	l.mu.Lock()
	next := p.next
	switch {
	case next < 0: // never carried: everything there is
		p.next = start
	case next < start:
		p.next = start
		l.notes[p.topic] = fmt.Sprintf("%s/%d: offsets %d to %d were deleted on the box before they were carried", p.topic, p.num, next, start-1)
		l.metrics.lost.Add(float64(start - next))
	case next > end:
		p.position = position{next: start, dest: -1}
		l.notes[p.topic] = fmt.Sprintf("%s/%d: the box's log was made anew; carried from its start", p.topic, p.num)
	}
	changed := next >= 0 && p.next != next
	l.mu.Unlock()
	if changed {
		l.log.Warn("position is outside the box's log", "topic", p.topic, "partition", p.num, "position", next, "start", start, "end", end)
	}
}

// compare looks, after a start or a stop, at what the destination holds
// beyond the last acknowledged record: the records that are about to be sent
// again, as long as nobody else writes there.
func (l *link) compare(p *partition, end int64) {
	if !p.fresh {
		return
	}
	p.fresh = false
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case p.dest < 0 || end == p.dest:
	case end > p.dest:
		l.countResent(min(p.again, end-p.dest)) // sent again before, and the answer got lost
		p.again = max(p.again, end-p.dest)
		l.log.Warn("records that were on their way are sent again", "topic", p.topic, "partition", p.num, "records", p.again)
	default:
		p.again = 0
		l.notes[p.topic] = fmt.Sprintf("%s/%d: the destination ends at %d, %d was acknowledged: it was wiped or is another cluster; carried on from the box's position",
			p.topic, p.num, end, p.dest)
		l.log.Warn("destination holds less than it acknowledged", "topic", p.topic, "partition", p.num, "end", end, "acknowledged", p.dest)
	}
	p.dest = end
}

// activate fetches partitions from their positions on.
func (l *link) activate(ps []*partition) {
	offsets := map[string]map[int32]kgo.Offset{}
	l.mu.Lock()
	for _, p := range ps {
		p.active, p.err = true, nil
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int32]kgo.Offset{}
		}
		offsets[p.topic][p.num] = kgo.NewOffset().At(p.next)
	}
	l.mu.Unlock()
	l.src.AddConsumePartitions(offsets)
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

func topicsOf(ps []*partition) []string {
	var names []string
	for _, p := range ps {
		if !slices.Contains(names, p.topic) {
			names = append(names, p.topic)
		}
	}
	return names
}
