package replicator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

const (
	// pingAfter is how long an idle link is believed to be as it was.
	pingAfter = 30 * time.Second
	pingWait  = 5 * time.Second
)

// save commits what is acknowledged, when it is time to or when now is set.
// After a crash the records acknowledged since are sent again: fewer than
// saveRecords and one lot, or while commits fail, than holdRecords and one
// lot.
func (l *link) save(ctx context.Context, now bool) {
	l.mu.Lock()
	due := l.unsaved > 0 && (now || l.unsaved >= saveRecords || time.Since(l.unsavedAt) >= saveAfter)
	parts := slices.Collect(maps.Values(l.parts))
	l.mu.Unlock()
	if !due {
		return
	}
	err := l.commit(ctx, parts)
	l.state.source(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsavedAt = time.Now() // after an error, the next try is not at once
	if err == nil {
		l.unsaved = 0
	}
}

// commit writes the positions of those partitions that have moved.
func (l *link) commit(ctx context.Context, ps []*partition) error {
	moved := map[key]position{}
	l.mu.Lock()
	for _, p := range ps {
		if p.next >= 0 && p.position != p.saved {
			moved[p.key] = p.position
		}
	}
	l.mu.Unlock()
	if len(moved) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if err := l.positions.save(ctx, moved); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range ps {
		if at, ok := moved[p.key]; ok {
			p.saved = at
		}
	}
	return nil
}

// held is true while so much is acknowledged and not committed that carrying
// on would make a crash send too much again.
func (l *link) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsaved >= holdRecords
}

// watch keeps lag and state true while the loop waits for the destination.
func (l *link) watch(ctx context.Context) {
	tick := time.NewTicker(l.pace.watch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.measureLag(ctx)
		l.probe(ctx)
	}
}

func (l *link) measureLag(ctx context.Context) {
	l.mu.Lock()
	next := map[key]int64{}
	var topics []string
	for k, p := range l.parts {
		next[k] = max(p.next, 0)
		if !slices.Contains(topics, k.topic) {
			topics = append(topics, k.topic)
		}
	}
	l.mu.Unlock()
	if len(topics) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	ends, err := l.srcAdm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return // the loop meets the same error and tells it
	}
	lag := int64(0)
	for k, at := range next {
		if end, ok := ends.Lookup(k.topic, k.num); ok && end.Err == nil {
			lag += max(0, end.Offset-at)
		}
	}
	l.mu.Lock()
	l.lag = lag
	l.mu.Unlock()
	l.metrics.lag.Set(float64(lag))
}

// probe finds out about a destination that says nothing.
func (l *link) probe(ctx context.Context) {
	lot, all := l.state.silent()
	if lot > patience {
		l.state.failed(fmt.Errorf("the destination has not answered for %s", lot.Round(time.Second)))
	}
	if lot > 0 || all < pingAfter {
		return
	}
	l.mu.Lock()
	dst := l.dst
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	if err := dst.Ping(ctx); err != nil {
		l.state.failed(err)
		return
	}
	l.state.ok()
}

// report adds the link's flows and facts to rep, and says whether the box
// does its part.
func (l *link) report(rep *manifest.Report) (manifest.Link, bool) {
	up, since, destErr, srcErr := l.state.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := manifest.Link{Name: l.name, Up: up, Since: since, Lag: l.lag}
	stopped := 0
	for _, p := range l.parts {
		if p.err != nil && !p.active {
			stopped++
			out.Error = p.err.Error()
		}
	}
	switch {
	case destErr != nil:
		out.Error = destErr.Error()
	case srcErr != nil:
		out.Error = srcErr.Error()
	}
	for _, topic := range sortedKeys(l.flows) {
		f := l.flows[topic]
		rep.Flows = append(rep.Flows, manifest.Flow{
			From: topic, To: l.name + ": " + l.rules.destination(topic), Records: f.records, Bytes: f.bytes,
		})
	}
	rep.Facts = append(rep.Facts, manifest.Fact{Name: l.name + ": records sent again", Value: fmt.Sprint(l.resent)})
	for _, topic := range sortedKeys(l.notes) {
		rep.Facts = append(rep.Facts, manifest.Fact{Name: l.name + ": note", Value: l.notes[topic]})
	}
	return out, stopped == 0 && srcErr == nil
}
