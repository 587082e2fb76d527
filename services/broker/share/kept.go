package share

import (
	"fmt"

	"github.com/waysideos/wayside/services/broker/meta"
)

// dump is what of a window is kept: see meta.SharePartition. Who has acquired
// what is not; that it was delivered is.
func (w *window) dump() (out []int64) {
	var l runList
	for _, r := range w.runs {
		if r.state == acquired {
			r = r.in(available)
		}
		l.put(r)
	}
	for _, r := range l.runs {
		out = append(out, r.len(), int64(r.state), int64(r.count))
	}
	return out
}

// maxOffset keeps sums of offsets from overflowing.
const maxOffset = 1 << 62

// restore is the inverse of dump. What cannot have come of it is an error.
func restore(start int64, runs []int64) (window, error) {
	w := window{start: start}
	if start < 0 || start > maxOffset || len(runs)%3 != 0 {
		return w, fmt.Errorf("start %d with %d numbers", start, len(runs))
	}
	var l runList
	for next := start; len(runs) > 0; runs = runs[3:] {
		n, s, count := runs[0], state(runs[1]), runs[2]
		bad := n <= 0 || n > maxOffset-next || count < 0 || count > 1<<15-1 || int64(s) != runs[1] ||
			s != available && s != acknowledged && s != archived || count == 0 && s != archived
		if bad {
			return window{start: start}, fmt.Errorf("%d offsets from %d on in state %d, delivered %d times", n, next, runs[1], count)
		}
		l.put(run{first: next, last: next + n - 1, state: s, count: int16(count)})
		next += n
	}
	w.runs = l.runs
	w.advance()
	return w, nil
}

// load takes a partition up where it was left. What the log lost since, in a
// power cut that it was not synced for, will hold other records.
func (p *partition) load(kept meta.SharePartition) {
	w, err := restore(kept.Start, kept.Runs)
	if err != nil {
		// Deliver again what may have been acknowledged, rather than lose any.
		p.m.Log.Error("the state of a share group's partition makes no sense: it goes on from its start",
			"group", p.group.id, "partition", p.key.Num, "err", err)
		w.start = max(w.start, 0)
	}
	p.window = w
	if _, end := p.log.EpochEnd(kept.Epoch); end >= 0 {
		p.window.cut(end)
	}
	_, hw := p.log.Bounds()
	p.window.cut(hw)
}

// kept is what the disk is to know of a partition.
func (p *partition) kept() meta.SharePartition {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := meta.SharePartition{Group: p.group.id, Topic: p.key.Topic, Partition: p.key.Num, Dropped: p.dropped}
	if !p.dropped {
		k.Start, k.Epoch, k.Runs = p.window.start, p.log.Epoch(), p.window.dump()
	}
	return k
}
