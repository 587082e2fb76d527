package replicator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// discover finds topics and partitions the link should carry, makes the
// producer if there is none, and begins what is new or due for another try.
// The source comes first, so that the lag is known while the destination is
// away.
func (l *link) discover(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if err := l.recall(within); err != nil {
		if ctx.Err() == nil {
			l.state.box(err)
			l.pause(ctx)
		}
		return
	}
	if time.Since(l.discovered) >= l.pace.discover {
		err := l.findPartitions(within)
		if ctx.Err() != nil {
			return
		}
		l.srcFailed(err)
		if err != nil {
			l.pause(ctx)
			return
		}
		l.discovered = time.Now()
	}
	if l.opened || l.open(ctx) {
		l.beginDue(ctx)
	}
}

// beginDue begins what is new, or due for another try, and has readers run.
func (l *link) beginDue(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, adminWait) // to open may have taken longer than that
	defer cancel()
	var due []*partition
	for _, p := range l.parts {
		if !p.active && !p.rests() && !l.ledger.doubts(p) && time.Now().After(p.retry) {
			due = append(due, p)
		}
	}
	if len(due) > 0 {
		l.begin(within, due)
	}
	l.newestFirst(within)
	l.follow(within)
	for _, n := range l.lanes {
		n.read(ctx)
	}
}

// pause keeps a source that answers with errors from being asked in a circle.
func (l *link) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(l.pace.backoffMin):
	}
}

// open makes the producer anew, when it is time to.
func (l *link) open(ctx context.Context) bool {
	if time.Now().Before(l.retry) || len(l.parts) == 0 {
		return false
	}
	wait, cancel := l.lasting(ctx)
	defer cancel()
	wait, cancel2 := context.WithTimeout(wait, openWait)
	defer cancel2()
	l.state.waiting(true)
	defer l.state.waiting(false)
	err := l.ledger.start(wait)
	if errors.Is(err, errNoTransactions) && l.cfg.Guarantee == "" {
		l.log.Warn("records are carried at least once, not exactly once", "error", err)
		l.note("", err.Error())
		l.ledger.exact = false
		err = l.ledger.start(wait)
	}
	if err != nil {
		if ctx.Err() == nil {
			l.broke(err)
		}
		return false
	}
	l.opened = true
	l.stamper = stamper{l: l}
	l.mu.Lock()
	l.promise = atLeastOnce
	if l.ledger.exact {
		l.promise = exactlyOnce
	}
	l.mu.Unlock()
	l.reconcile()
	return true
}

const (
	exactlyOnce = "exactly once"
	atLeastOnce = "at least once"
)

// reconcile brings partitions in line with what the destination says it has: a
// commit whose answer was lost may have happened, also for a partition that has
// been stopped since.
func (l *link) reconcile() {
	if !l.ledger.exact {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		at, ok := l.ledger.known[l.positionKey(p)]
		switch {
		case ok && at.position == p.saved, !ok && !p.active && p.saved == unknown:
		case p.active && ok && at.next > p.next && at.next <= p.read && p.win == nil:
			p.position, p.saved, p.seen = at.position, at.position, at.next
			p.done()
		default:
			p.reset()
			p.position, p.fresh = unknown, true
		}
	}
}

// findPartitions brings l.parts in line with the source.
func (l *link) findPartitions(ctx context.Context) error {
	topics, err := l.sourceTopics(ctx)
	if err != nil {
		return err
	}
	found := map[key]kadm.TopicID{}
	for _, n := range l.lanes {
		for _, t := range topics {
			if t.Err != nil || !n.rules.match(t.Topic) {
				continue
			}
			for num := range t.Partitions {
				found[key{n, t.Topic, num}] = t.ID
			}
		}
	}
	for k, p := range l.parts {
		if id, ok := found[k]; !ok || id != p.id {
			l.forget(k.lane, k.topic)
		}
	}
	added := map[*lane][]key{}
	for k := range found {
		if l.parts[k] == nil {
			added[k.lane] = append(added[k.lane], k)
		}
	}
	for n, ks := range added {
		mirror, err := l.mirrored(ctx, n)
		if err != nil {
			return err
		}
		l.mu.Lock()
		for _, k := range ks {
			p := &partition{key: k, position: unknown, saved: unknown, mirrored: unknown, id: found[k], to: n.rules.destination(k.topic), fresh: true}
			if at, ok := mirror[k]; ok {
				p.onBox, p.mirrored, p.pairs = &at, at.position, at.pairs
			}
			l.parts[k] = p
		}
		l.mu.Unlock()
	}
	return nil
}

// sourceTopics are the topics of the source; it learns its cluster id too.
func (l *link) sourceTopics(ctx context.Context) (kadm.TopicDetails, error) {
	var names []string
	for _, n := range l.lanes {
		names = append(names, n.rules.topics...)
	}
	if !l.down || slices.ContainsFunc(names, isPattern) {
		names = nil // all
	}
	got, err := l.srcAdm.Metadata(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics of the source: %w", err)
	}
	if l.source != "" && l.source != got.Cluster {
		return nil, fmt.Errorf("the source is cluster %q, it was %q when the link began: restart the replicator if that is right", got.Cluster, l.source)
	}
	l.source, l.alone = got.Cluster, len(got.Brokers) == 1
	return got.Topics, nil
}

// forget drops a topic that is gone from the source, or was made anew.
func (l *link) forget(n *lane, topic string) {
	l.log.Info("topic is gone from the source", "topic", topic)
	l.halt(n)
	n.purge(topic)
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.parts, func(k key, p *partition) bool {
		gone := k.lane == n && k.topic == topic
		if gone {
			p.reset()
		}
		return gone
	})
}

// halt stops a lane's reader; discover starts it again.
func (l *link) halt(n *lane) {
	for _, lot := range n.halt() {
		l.queue(n, lot)
	}
}

// stopTopic stops all partitions of a topic that cannot be read and makes the
// client forget it: franz-go never accepts the new id of a topic that was
// deleted and made again.
func (l *link) stopTopic(n *lane, topic string, err error) {
	for _, p := range l.parts {
		if p.lane == n && p.topic == topic && p.active {
			l.stop(p, err)
		}
	}
	n.purge(topic)
}

// purge forgets a topic. No reader runs.
func (n *lane) purge(topic string) {
	n.src.PurgeTopicsFromConsuming(topic)
	if n.whole != nil {
		delete(n.whole.at, topic)
	}
}
