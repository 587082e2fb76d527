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
		l.carryGroups(ctx)
	}
}

func (l *link) measureLag(ctx context.Context) {
	l.mu.Lock()
	next := map[key]int64{}
	var all []*partition
	for k, p := range l.parts {
		if k.lane.first != nil {
			continue
		}
		next[k] = max(p.next, p.seen, 0)
		if c := l.companion(p); c != nil {
			next[k] += max(0, c.next-c.from) // carried ahead
		}
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
	lag, written := int64(0), int64(0)
	for k, at := range next {
		if end, ok := ends.Lookup(k.topic, k.num); ok && end.Err == nil {
			lag += max(0, end.Offset-at)
			written += end.Offset
		}
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var carried flow
	for _, f := range l.flows {
		carried.records += f.records
		carried.bytes += f.bytes
	}
	l.lag = Lag{Records: lag, CatchUp: l.speed.update(now, written-lag, written, lag)}
	if carried.records > 0 {
		l.lag.Bytes = carried.meanOf(lag)
	}
	if oldest := l.oldest(); lag > 0 && !oldest.IsZero() {
		l.lag.Seconds = max(0, now.Sub(oldest).Seconds())
	}
	l.metrics.lag.Set(float64(lag))
	l.metrics.lagBytes.Set(float64(l.lag.Bytes))
	l.metrics.lagSeconds.Set(l.lag.Seconds)
}

// meanOf is the bytes of so many records, by their mean. In whole numbers the product
// does not fit once a terabyte was carried.
func (f flow) meanOf(records int64) int64 {
	return int64(float64(records) * float64(f.bytes) / float64(f.records))
}

// oldest is when the first record that waits was written, under l.mu.
func (l *link) oldest() (at time.Time) {
	for _, p := range l.parts {
		if !p.waits.IsZero() && (at.IsZero() || p.waits.Before(at)) {
			at = p.waits
		}
	}
	return at
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
	out := manifest.Link{Name: l.name, Up: up, Since: since, Lag: l.lag.Records}
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
	if l.paused {
		fact("paused", "by hand")
	}
	if now := time.Now(); l.budget.Spent(now) {
		fact("budget", "the bytes of the day or the month are used up; only rules of high priority are carried")
	}
	if l.lag.Records > 0 {
		fact("lag", l.lag.String())
	}
	fact("records sent again", fmt.Sprint(l.resent))
	for _, topic := range sortedKeys(l.notes) {
		fact("note", l.notes[topic])
	}
	return out, stopped == 0 && box == nil
}
