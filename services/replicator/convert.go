package replicator

import (
	"bytes"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator/rule"
)

// pathHeader says where a record has been: "name@cluster" of each cluster it
// was carried from, with commas. A record is never carried to a cluster that
// it has been in, so that no circle of links has an end without a start.
const pathHeader = "wayside-path"

// convert is what becomes of a record: the same but for the topic's name and
// the header that says where it has been; nothing, where a rule says so; or
// the summaries of windows that the record has closed.
func (l *link) convert(p *partition, r *kgo.Record) []*kgo.Record {
	if r.Attrs.IsControl() {
		return nil
	}
	if n := p.lane; n.rule.Windowed() {
		if p.lot.win == nil {
			p.lot.win = p.windows().Clone()
		}
		var outs []*kgo.Record
		if !l.hasBeen(r) {
			for _, o := range p.lot.win.Add(r) {
				outs = append(outs, l.address(p, o))
			}
		}
		return outs
	}
	if l.hasBeen(r) {
		l.metrics.looped.Inc()
		return nil
	}
	if !p.lane.rule.Keep(r) {
		return nil
	}
	value, err := p.lane.rule.Apply(r)
	if err != nil {
		p.lot.dead = append(p.lot.dead, dead{r, err})
		return nil
	}
	o := *r
	o.Value = value
	return []*kgo.Record{l.address(p, &o)}
}

// address is the record as it is produced.
func (l *link) address(p *partition, r *kgo.Record) *kgo.Record {
	path := l.hop
	headers := make([]kgo.RecordHeader, 0, len(r.Headers)+1)
	for _, h := range r.Headers {
		if h.Key == pathHeader {
			path = append(append(bytes.Clone(h.Value), ','), l.hop...)
			continue
		}
		headers = append(headers, h)
	}
	return &kgo.Record{
		Topic: p.to, Partition: p.num, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp,
		Headers: append(headers, kgo.RecordHeader{Key: pathHeader, Value: path}),
	}
}

// hasBeen is true for a record that has been in the destination's cluster.
func (l *link) hasBeen(r *kgo.Record) bool {
	for _, h := range r.Headers {
		if h.Key != pathHeader {
			continue
		}
		for hop := range bytes.SplitSeq(h.Value, []byte(",")) {
			if _, cluster, ok := bytes.Cut(hop, []byte("@")); ok && string(cluster) == l.dest {
				return true
			}
		}
	}
	return false
}

// learnPath notes which clusters the ends are. A link from a cluster to
// itself is a circle of one.
func (l *link) learnPath(dest string) error {
	name := l.site
	if l.down {
		name = l.name
	}
	l.dest, l.hop = dest, []byte(name+"@"+l.source)
	if dest != l.source {
		return nil
	}
	for _, n := range l.lanes {
		for _, t := range n.rules.topics {
			if to := n.rules.destination(t); n.rules.match(to) {
				return fmt.Errorf("the link goes from cluster %s to itself, and what it carries to %s it would carry again", dest, to)
			}
		}
	}
	return nil
}

// windows are those of the partition; new ones begin where the position says.
func (p *partition) windows() *rule.Windows {
	if p.win == nil {
		p.win = p.lane.rule.NewWindows(p.closed)
	}
	return p.win
}

// quietWindow is how long no record comes before windows close by the clock.
const quietWindow = 2 * time.Second

// idle closes windows of a partition of which no record comes, and makes that
// a lot if any closes.
func (p *partition) idle(now time.Time) []*kgo.Record {
	if p.win == nil || !p.active || p.lot.taken > 0 || len(p.queue) > 0 || now.Sub(p.turn) < quietWindow {
		return nil
	}
	w := p.win.Clone()
	outs := w.Flush(now)
	if len(outs) > 0 {
		p.lot = lot{next: p.seen, dest: -1, acked: -1, win: w, quiet: true}
	}
	return outs
}
