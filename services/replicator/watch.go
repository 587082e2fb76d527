package replicator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

const (
	// pingAfter is how long an idle link is believed to be as it was.
	pingAfter = 30 * time.Second
	pingWait  = 5 * time.Second
)

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
	var all []*partition
	for k, p := range l.parts {
		next[k] = max(p.next, 0)
		all = append(all, p)
	}
	l.mu.Unlock()
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	ends, err := l.srcAdm.ListEndOffsets(ctx, topicsOf(all)...)
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
		l.state.failed(fmt.Errorf("the centre has not answered for %s", lot.Round(time.Second)))
	}
	if lot > 0 || all < pingAfter {
		return
	}
	l.mu.Lock()
	far := l.dst
	l.mu.Unlock()
	if l.down {
		far = l.lanes[0].src
	}
	if far == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	if err := far.Ping(ctx); err != nil {
		l.state.failed(err)
		return
	}
	l.state.ok()
}

// report adds the link's flows and facts to rep, and says whether the box
// does its part.
func (l *link) report(rep *manifest.Report) (manifest.Link, bool) {
	up, since, centre, box := l.state.now()
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
	case centre != nil:
		out.Error = centre.Error()
	case box != nil:
		out.Error = box.Error()
	}
	for k, f := range l.flows {
		from, to := k.from, l.name+": "+k.to
		if l.down {
			from, to = l.name+": "+k.from, k.to
		}
		rep.Flows = append(rep.Flows, manifest.Flow{From: from, To: to, Records: f.records, Bytes: f.bytes})
	}
	slices.SortFunc(rep.Flows, func(a, b manifest.Flow) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	fact := func(name, value string) {
		rep.Facts = append(rep.Facts, manifest.Fact{Name: l.name + ": " + name, Value: value})
	}
	if l.promise != "" {
		fact("guarantee", l.promise)
	}
	fact("records sent again", fmt.Sprint(l.resent))
	for _, topic := range sortedKeys(l.notes) {
		fact("note", l.notes[topic])
	}
	return out, stopped == 0 && box == nil
}
