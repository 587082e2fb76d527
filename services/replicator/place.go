package replicator

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// sourceLog is what the source has of a partition.
type sourceLog struct {
	start, end int64
	// diverged is where the log stops being the one that was carried from, if
	// that is known: it was cut or set back (KIP-320). Else -1.
	diverged int64
	// epoch is the one of the source's leader, -1 if it does not say.
	epoch int32
}

// sourceLogs asks the source for the logs of partitions; one that is not
// answered for is left out.
func (l *link) sourceLogs(ctx context.Context, ps []*partition) (map[*partition]sourceLog, error) {
	names := topicsOf(ps)
	start, err1 := l.srcAdm.ListStartOffsets(ctx, names...)
	end, err2 := l.srcAdm.ListEndOffsets(ctx, names...)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("list offsets of the source: %w", err)
	}
	var ask kadm.OffsetForLeaderEpochRequest
	for _, p := range ps {
		if at := l.candidate(p); at != nil && at.epoch >= 0 {
			ask.Add(p.topic, p.num, at.epoch)
		}
	}
	var epochs kadm.OffsetsForLeaderEpochs
	if len(ask) > 0 {
		epochs, _ = l.srcAdm.OffsetForLeaderEpoch(ctx, ask) // a source that cannot say is believed
	}
	logs := map[*partition]sourceLog{}
	for _, p := range ps {
		from, ok1 := start.Lookup(p.topic, p.num)
		to, ok2 := end.Lookup(p.topic, p.num)
		if !ok1 || !ok2 || from.Err != nil || to.Err != nil {
			continue
		}
		log := sourceLog{from.Offset, to.Offset, -1, to.LeaderEpoch}
		if e, ok := epochs[p.topic][p.num]; ok && e.Err == nil && e.EndOffset >= 0 {
			log.diverged = e.EndOffset
		}
		logs[p] = log
	}
	return logs, nil
}

// candidate is the position that is known of a partition, wherever from; nil
// if there is none.
func (l *link) candidate(p *partition) *remembered {
	if p.next >= 0 {
		return &remembered{position: p.position, id: p.id, final: true}
	}
	at, ok := l.ledger.known[l.positionKey(p)]
	switch {
	case !ok || !l.ledger.exact:
		return p.onBox
	case p.onBox != nil && p.onBox.final && p.onBox.next > at.next && p.onBox.id == at.id:
		return p.onBox // the destination granted no transactions for a time
	}
	return &at
}

// place sets a partition's position: the destination's word, or without one
// the box's, unless the destination has lost what it speaks of; inside the
// source's log. It is false while it cannot be set.
func (l *link) place(p *partition, log sourceLog, destEnd int64) bool {
	at := l.candidate(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.lane.first != nil {
		return l.placeNewest(p, log)
	}
	tell := func(format string, a ...any) {
		l.notes[p.topic] = fmt.Sprintf("%s/%d: ", p.topic, p.num) + fmt.Sprintf(format, a...)
		l.log.Warn("position is not as it was left", "topic", p.topic, "partition", p.num, "note", l.notes[p.topic])
	}
	start := position{next: log.start, epoch: -1, dest: -1}
	fresh := p.fresh
	p.fresh = false
	acked := unknown.dest
	if at != nil {
		acked = at.dest
	}
	if _, ok := l.ledger.known[l.positionKey(p)]; !ok {
		acked = max(acked, p.saved.dest) // which the destination no longer knows
	}
	switch {
	case at != nil && at.id != p.id && at.id != (kadm.TopicID{}):
		tell("the topic was made anew at the source; carried from its start")
		p.position = start
	case fresh && acked > destEnd:
		tell("the destination ends at %d, %d was acknowledged: it was wiped or is another cluster; carried from the start of what the source has", destEnd, acked)
		p.position = start
	case at == nil:
		p.position = start
	case l.alone && log.epoch >= 0 && log.epoch < at.epoch:
		// Of several brokers, one may not know yet that it leads no more. Where
		// the logs part nobody can say: of the epochs since, only those that it
		// shares with ours are told by a later one.
		tell("the source is another log: its leader epoch is %d, records of %d were carried; it is an old copy, started without the time; carried from the start of what it has", log.epoch, at.epoch)
		p.position = start
	default:
		p.position = at.position
	}
	if log.diverged >= 0 && p.next > log.diverged {
		tell("the source was set back: its log follows ours up to %d, %d was carried; carried on from %d", log.diverged, p.next, log.diverged)
		p.next, p.epoch = log.diverged, -1
	}
	switch {
	case p.next < log.start:
		tell("offsets %d to %d were deleted at the source before they were carried", p.next, log.start-1)
		l.metrics.lost.Add(float64(log.start - p.next))
		p.next, p.epoch = log.start, -1
	case p.next > log.end && at.id == (kadm.TopicID{}):
		tell("the source's log was made anew; carried from its start")
		p.position = start
	case p.next > log.end:
		tell("the source was set back: it ends at %d, %d was carried; carried on from its end", log.end, p.next)
		p.next, p.epoch = log.end, -1
	}
	p.anew = at == nil || p.next < at.next || at.dest != p.dest
	if p.anew || p.next != at.next {
		p.pairs = nil
	}
	if p.dest >= 0 {
		p.pairs = p.pairs.until(p.next, p.dest).add(pair{p.next, p.dest, 0})
	} else if len(p.pairs) == 0 {
		p.pairs = pairs{{p.next, destEnd, 0}} // all that is carried from here on will lie behind its end
	}
	if fresh && !l.ledger.exact {
		l.compare(p, destEnd)
	}
	return true
}

// compare looks, after a start or a stop, at what a destination without
// transactions holds beyond the last acknowledged record: the records that
// are about to be sent again, as long as nobody else writes there.
func (l *link) compare(p *partition, end int64) {
	if p.dest >= 0 && end > p.dest {
		l.countResent(min(p.again, end-p.dest)) // sent again before, and the answer got lost
		p.again = max(p.again, end-p.dest)
		l.log.Warn("records that were on their way are sent again", "topic", p.topic, "partition", p.num, "records", p.again)
	}
	p.dest = end
}

func topicsOf(ps []*partition) []string {
	seen := map[string]bool{}
	var names []string
	for _, p := range ps {
		if !seen[p.topic] {
			seen[p.topic] = true
			names = append(names, p.topic)
		}
	}
	return names
}
