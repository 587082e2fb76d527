package replicator

import (
	"context"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// A rule with newest_first has a second lane, which goes before the first.
// When the oldest record that waits is older than the rule says, the second
// lane begins where the source's log has become young enough, and the first
// drains what is before that in order. When it gets there, it goes on behind
// what the second has carried. Each has a position of its own, kept in the
// same way: the second's says where it began as well, so that after a restart
// the two say whether the first has got there.

// newestKey ends the names of the second lane's positions.
const newestKey = "newest"

// newestLane is the second lane of n.
func (n *lane) newestLane() *lane {
	n.newest = &lane{name: n.name + "." + newestKey, rules: n.rules, rule: n.rule, rank: n.rank - 1, first: n}
	return n.newest
}

// youngerAgain is how often the source is asked where a second lane might begin.
const youngerAgain = 10 * time.Second

// companion is the other lane's partition of the same source partition.
func (l *link) companion(p *partition) *partition {
	other := p.lane.newest
	if p.lane.first != nil {
		other = p.lane.first
	}
	if other == nil {
		return nil
	}
	return l.parts[key{other, p.topic, p.num}]
}

// idleNewest is the position of a second lane that has nothing to do.
var idleNewest = position{next: 0, epoch: -1, dest: -1}

// rests is true for a partition of a second lane that has nothing to do.
func (p *partition) rests() bool { return p.lane.first != nil && p.next >= 0 && p.from == 0 }

// until is the source offset that a first lane's partition has to stop before.
func (l *link) until(p *partition) int64 {
	if p.lane.newest == nil {
		return math.MaxInt64
	}
	c := l.companion(p)
	switch {
	case c == nil || c.next < 0:
		return 0 // not known yet
	case c.from > 0:
		return c.from
	}
	return math.MaxInt64
}

// placeNewest sets the position of a second lane's partition, after that of
// the first lane's, under l.mu. It is false while that is not known.
func (l *link) placeNewest(p *partition, log sourceLog) bool {
	q := l.companion(p)
	if q == nil || q.next < 0 {
		return false
	}
	at := l.candidate(p)
	p.fresh = false
	anew := q.anew
	q.anew = false // said once: p may be placed again when all is well
	switch {
	case at == nil || at.from == 0 || at.id != p.id && at.id != (kadm.TopicID{}) || anew || log.diverged >= 0 && at.next > log.diverged || at.next > log.end:
		p.position = idleNewest
	case q.next >= at.from: // the first lane has got there
		p.position = idleNewest
		if at.next > q.next {
			l.joinAt(q, at.position)
		}
	default:
		p.position = at.position
		if p.next < log.start {
			l.metrics.lost.Add(float64(log.start - p.next))
			p.next, p.epoch = log.start, -1
		}
	}
	return true
}

// joinAt has a first lane's partition go on behind what the second lane has carried.
func (l *link) joinAt(q *partition, at position) {
	active := q.active
	q.reset()
	q.next, q.epoch, q.seen, q.read = at.next, at.epoch, at.next, at.next
	q.dest = max(q.dest, at.dest)
	q.rejoin = active
}

// newestFirst begins second lanes where records have waited for too long, and
// ends those that the first has caught up with.
func (l *link) newestFirst(ctx context.Context) {
	var begin, again, ended []*partition
	l.mu.Lock()
	for _, c := range l.parts {
		if c.lane.first == nil || c.next < 0 {
			continue
		}
		q := l.companion(c)
		switch {
		case q == nil || !q.active && !q.rejoin:
		case c.from > 0 && (q.next >= c.from || len(q.queue) > 0 && q.queue[0].Offset >= c.from):
			l.joinAt(q, c.position)
			c.reset()
			c.position = idleNewest
			ended = append(ended, c)
		case c.from == 0 && !q.waits.IsZero() && time.Since(q.waits) > c.lane.rule.Newest() && time.Now().After(c.retry):
			c.retry = time.Now().Add(youngerAgain)
			begin = append(begin, c)
		}
		if q != nil && q.rejoin {
			q.rejoin = false
			again = append(again, q)
		}
	}
	l.mu.Unlock()
	for _, c := range ended {
		l.log.Info("all is carried in order again", "topic", c.topic, "partition", c.num)
		l.unfetch(c)
	}
	for _, c := range begin {
		if from := l.youngFrom(ctx, c); from > l.companion(c).next {
			l.log.Info("the newest records go first", "topic", c.topic, "partition", c.num, "from", from)
			l.mu.Lock()
			c.position = position{next: from, epoch: -1, dest: -1, from: from}
			l.mu.Unlock()
			again = append(again, c)
		}
	}
	if len(again) > 0 {
		l.activate(again)
	}
}

// youngFrom is the source offset from which on records are young enough to go
// first, 0 if there is none.
func (l *link) youngFrom(ctx context.Context, p *partition) int64 {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	got, err := l.srcAdm.ListOffsetsAfterMilli(ctx, time.Now().Add(-p.lane.rule.Newest()).UnixMilli(), p.topic)
	o, ok := got.Lookup(p.topic, p.num)
	if err != nil || !ok || o.Err != nil || o.Timestamp < 0 {
		return 0 // the end of the log, where nothing is young
	}
	return o.Offset
}
