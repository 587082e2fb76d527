package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// carry takes one lot from source to destination. It is false when there is
// nothing to carry, or nothing can be carried now.
func (l *link) carry(ctx context.Context) bool {
	if ctx.Err() != nil || !l.opened || l.ledger.held() || l.isPaused() || l.budget.Wait(time.Now()) > 0 {
		return false
	}
	l.fetch()
	if !l.ledger.settled(ctx) {
		return false
	}
	ps, outs, parcels := l.takeLot()
	if len(ps) == 0 {
		return false
	}
	began := time.Now()
	for _, p := range ps {
		if len(p.lot.dead) == 0 {
			continue
		}
		if err := l.bury(ctx, p, p.lot.dead); err != nil {
			l.state.box(err)
			l.drop(ps)
			return false
		}
	}
	if len(outs)+len(parcels) > 0 {
		if err := l.ledger.begin(); err != nil {
			l.drop(ps)
			l.broke(err)
			return true
		}
		if !l.flush(ctx, outs, parcels) {
			return false // ctx has ended, and the answers do not come
		}
	}
	if l.settle(ctx, ps) && len(outs)+len(parcels) > 0 {
		l.adapt(time.Since(began) + l.budget.Wait(time.Now()))
	}
	return true
}

// drop gives a lot up before anything of it is sent.
func (l *link) drop(ps []*partition) {
	for _, p := range ps {
		p.lot = lot{}
	}
}

// out is a record to produce and where it comes from.
type out struct {
	p      *partition
	offset int64 // of the source record
	r      *kgo.Record
}

// takeLot takes from all queues up to l.lotSize bytes together.
func (l *link) takeLot() (ps []*partition, outs []out, parcels []parcel) {
	left, records := l.lotSize, lotRecords
	for _, p := range l.waiting() {
		if left <= 0 || records <= 0 {
			break
		}
		rs := p.take(left)
		for _, r := range rs {
			left -= sizeOf(r)
			if p.whole {
				if r.Value != nil {
					parcels = append(parcels, parcel{p, r, r.Value})
				}
				continue
			}
			for _, o := range l.convert(p, r) {
				outs = append(outs, out{p, r.Offset, o})
			}
		}
		records -= len(rs)
		ps = append(ps, p)
	}
	spent := l.budget.Spent(time.Now())
	for _, p := range l.parts {
		if l.barred(p, spent) {
			continue
		}
		if rs := p.idle(time.Now()); p.lot.quiet {
			for _, o := range rs {
				outs = append(outs, out{p, p.seen - 1, l.address(p, o)})
			}
			ps = append(ps, p)
		}
	}
	return ps, outs, parcels
}

// waiting are the partitions that have something queued: those of lanes that
// go first, and of one lane the one that was carried the longest time ago.
func (l *link) waiting() []*partition {
	var ps []*partition
	spent := l.budget.Spent(time.Now())
	for _, p := range l.parts {
		if p.until = l.until(p); p.active && !l.barred(p, spent) && len(p.queue) > 0 && p.queue[0].Offset < p.until {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b *partition) int {
		return cmp.Or(cmp.Compare(a.lane.rank, b.lane.rank), a.turn.Compare(b.turn), cmp.Compare(a.topic, b.topic), cmp.Compare(a.num, b.num))
	})
	return ps
}

// barred is true for what may not go now: it is in doubt, or what is left of a
// spent budget is for those that go first.
func (l *link) barred(p *partition, spent bool) bool {
	return l.ledger.doubts(p) || spent && p.lane.rank > ranks[site.High]
}

// flush produces all and waits until it is answered, for ever while ctx
// lasts and a moment longer: what is on its way then would have to come again.
// It is false if some of it has no answer.
func (l *link) flush(ctx context.Context, outs []out, parcels []parcel) bool {
	wait, cancel := l.lasting(ctx)
	defer cancel()
	l.state.waiting(true)
	defer l.state.waiting(false)
	for _, round := range l.rounds(outs) {
		for _, o := range round {
			if l.failed(o.p) {
				continue // what is behind a refused record waits for it
			}
			size := int64(len(o.r.Key) + len(o.r.Value))
			l.dst.Produce(context.Background(), o.r, func(r *kgo.Record, err error) {
				l.answered(o.p, o.offset, size, r.Offset, err)
			})
		}
		if parcels != nil {
			if err := l.stamper.send(wait, parcels); err != nil {
				l.undelivered(parcels, err)
			}
			parcels = nil
		}
		_ = l.dst.Flush(wait)
		if l.dst.BufferedProduceRecords() > 0 {
			return false
		}
		l.ledger.meet(round)
	}
	return true
}

// failed is true when a record of the partition's lot was not taken.
func (l *link) failed(p *partition) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return p.lot.err != nil
}

// lasting is a context that outlives ctx by the time of grace, or not at all
// while the centre is away.
func (l *link) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	wait, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if up, _, _, _ := l.state.now(); !up {
			cancel()
		}
		time.AfterFunc(l.pace.grace, cancel)
	})
	return wait, func() { stop(); cancel() }
}

// answered is called by franz-go in the order of a partition's records.
func (l *link) answered(p *partition, offset, size, dest int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && p.lot.err == nil:
		p.lot.err = err
	case err != nil:
	case p.lot.err != nil: // of another batch of a transaction, which takes it back
	default:
		if offset != p.lot.acked || dest != p.lot.dest {
			p.lot.run = 0
		}
		p.lot.run++
		p.lot.acked, p.lot.dest = offset+1, dest+1
		p.lot.sent.records++
		p.lot.sent.bytes += size
		if !l.down {
			l.state.ok()
		}
	}
}

// settle ends the lot: positions move, or what failed is set back.
func (l *link) settle(ctx context.Context, ps []*partition) bool {
	var failed, refused []*partition
	var fatal error
	for _, p := range ps {
		switch {
		case p.lot.err == nil:
		case forGood(p.lot.err), p.whole && errors.Is(p.lot.err, kerr.UnsupportedCompressionType):
			refused = append(refused, p)
		case ofPartition(p.lot.err):
			failed = append(failed, p)
		case fatal == nil: // it is one failure, of many partitions
			fatal = l.ledger.why(p.lot.err)
		}
	}
	if !l.ledger.exact || fatal == nil && len(failed)+len(refused) == 0 {
		err := l.ledger.commit(ctx, ps)
		fatal = cmp.Or(fatal, err)
		if err == nil {
			l.moved(ps)
		}
	}
	for _, p := range failed {
		l.stop(p, fmt.Errorf("%s/%d is stopped before offset %d: %w", p.topic, p.num, p.next, p.lot.err))
	}
	for _, p := range refused {
		l.refuse(ctx, p)
	}
	for _, p := range ps {
		p.lot = lot{}
	}
	switch {
	case fatal != nil:
		l.broke(fatal)
	case len(failed)+len(refused) > 0:
		l.opened = false // the producer has failed records: a new one has no sequence numbers to disagree about
	default:
		l.fails = 0
	}
	return fatal == nil && len(failed)+len(refused) == 0
}

// moved makes the lot's positions those of its partitions.
func (l *link) moved(ps []*partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range ps {
		if p.lot.err == nil {
			p.fails, p.err, p.turn = 0, nil, time.Now()
			p.grow()
		}
		l.count(p)
		l.countLate(p)
		run := p.lot.run
		if p.lot.acked != p.lot.next {
			run = 0
		}
		p.move()
		if p.dest >= 0 {
			p.pairs = p.pairs.add(pair{p.next, p.dest, run})
		}
	}
}

// count adds what a partition has carried to flows and metrics, under l.mu.
func (l *link) count(p *partition) {
	if p.lot.sent.records == 0 {
		return
	}
	k := flowKey{p.topic, p.to}
	f := l.flows[k]
	if f == nil {
		f = &flow{}
		l.flows[k] = f
	}
	f.records += p.lot.sent.records
	f.bytes += p.lot.sent.bytes
	l.metrics.acked(p.topic, p.lot.sent)
	if n := min(p.again, p.lot.sent.records); n > 0 {
		p.again -= n
		l.countResent(n)
	}
}

// countLate tells of records that came after their window had closed, under l.mu.
func (l *link) countLate(p *partition) {
	if p.lot.win == nil || p.lot.err != nil || p.lot.win.Late() == p.win.Late() {
		return
	}
	l.metrics.late.Add(float64(p.lot.win.Late() - p.win.Late()))
	l.notes["late "+p.topic] = fmt.Sprintf("%s/%d: %d records came later than the grace of rule %s, and are in no summary", p.topic, p.num, p.lot.win.Late(), p.lane.name)
}

// adapt makes lots as large as the uplink carries in lotTime.
func (l *link) adapt(took time.Duration) {
	switch {
	case took > 2*lotTime:
		l.lotSize = max(l.lotSize/2, lotMin)
	case took < lotTime:
		l.lotSize = min(l.lotSize*2, lotMax)
	}
}
