package model

import (
	"slices"
	"strconv"
	"testing/synctest"
	"time"
)

// verify reads a whole partition in both ways and compares.
func (w *world) verify(p *part) {
	synctest.Wait()               // what is being synced or compacted at this instant
	hw, _ := w.list(p, -1, false) // waits for what was acknowledged with acks=1
	w.extend(p)
	start, _ := w.list(p, -2, false)
	w.moved(p, start)
	stable, _ := w.list(p, -1, true)
	if hw != p.end {
		failf("%s: high watermark %d, read up to %d", p.dir(), hw, p.end)
	}
	want := hw
	for _, e := range p.open {
		want = min(want, e.base)
		if e.b.txn.decided && !w.excused(p) && !w.excusedState() {
			failf("%s: the transaction of batch %d at %d is over (committed=%v) and has no marker here", p.dir(), e.b.id, e.base, e.b.txn.commit)
		}
	}
	if want = max(want, start); stable != want {
		failf("%s: last stable offset %d, want %d (log %d to %d)", p.dir(), stable, want, start, hw)
	}
	got := w.readAll(p, start, hw)
	w.complete(p, got)
	if stable > start {
		w.readCommitted(p, got, start+w.rng.Int64N(stable-start), stable)
	}
	w.byTime(p, got)
}

func (w *world) readAll(p *part, from, to int64) map[int64]read {
	most := []int32{100, 1000, 1 << 20}[w.rng.IntN(3)]
	out := map[int64]read{}
	for at := from; at < to; {
		resp, c := w.fetch(p, at, false, most)
		if resp.ErrorCode != 0 {
			failf("%s: offset %d of %d to %d is out of range", p.dir(), at, from, to)
		}
		for _, r := range c.reads {
			if r.offset >= from {
				out[r.offset] = r
			}
		}
		if c.next <= at {
			break
		}
		at = c.next
	}
	return out
}

// complete compares what a partition holds with what it should hold.
func (w *world) complete(p *part, got map[int64]read) {
	last := map[string]*lastOf{}
	for _, e := range p.known {
		if e.b == nil || !e.visible() {
			continue
		}
		for i, r := range e.b.recs {
			last[r.key] = &lastOf{e.base + int64(i), r.value == nil, e.b.at}
		}
	}
	for _, e := range p.known {
		for k := range e.n {
			offset := e.base + k
			if offset < p.start {
				continue
			}
			r, ok := got[offset]
			switch {
			case e.b == nil:
				if ok && (r.batch >= 0 || r.pid != e.pid || r.commit != e.commit) {
					failf("%s: offset %d: marker of %d was changed: %+v", p.dir(), offset, e.pid, r)
				}
				if !ok && !p.topic.compacted {
					failf("%s: offset %d: the marker is gone", p.dir(), offset)
				}
			case ok:
				if r.batch != e.b.id || int64(r.index) != k {
					failf("%s: offset %d holds record %d.%d, before it was %d.%d", p.dir(), offset, r.batch, r.index, e.b.id, k)
				}
				w.same(p, r)
			default:
				w.mayBeGone(p, e, k, last[e.b.recs[k].key], got)
			}
		}
	}
	for offset, r := range got {
		if r.batch >= 0 && e(p, offset) == nil {
			failf("%s: offset %d: record %d.%d was not there before", p.dir(), offset, r.batch, r.index)
		}
	}
}

// e finds the entry that holds an offset.
func e(p *part, offset int64) *entry {
	i, ok := slices.BinarySearchFunc(p.known, offset, func(e *entry, o int64) int {
		switch {
		case e.base+e.n <= o:
			return -1
		case e.base > o:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return p.known[i]
}

type lastOf struct {
	offset    int64
	tombstone bool
	at        time.Time
}

// mayBeGone judges a record that is missing.
func (w *world) mayBeGone(p *part, e *entry, k int64, last *lastOf, got map[int64]read) {
	offset, t := e.base+k, p.topic
	key := e.b.recs[k].key
	what := func(why string) {
		failf("%s: record %d.%d (key %s) at %d is gone: %s; %v", p.dir(), e.b.id, k, key, offset, why, t.conf)
	}
	if !t.compacted {
		what("it was acknowledged or read before")
	}
	if lag := t.number("min.compaction.lag.ms", 0); time.Since(e.b.at).Milliseconds() < lag {
		what("it is younger than min.compaction.lag.ms")
	}
	if e.b.txn != nil && !e.over {
		what("its transaction is open")
	}
	if e.b.txn != nil && !e.commit || offset < last.offset {
		return
	}
	if !last.tombstone {
		what("it is the last of its key")
	}
	if time.Since(last.at).Milliseconds() < t.number("delete.retention.ms", 24*3600*1000) {
		what("the tombstone is younger than delete.retention.ms")
	}
	for _, other := range p.known {
		if other.b == nil || !other.visible() {
			continue
		}
		for i, r := range other.b.recs {
			if _, ok := got[other.base+int64(i)]; ok && r.key == key {
				what("the tombstone went before what it deletes, which is at " + strconv.FormatInt(other.base+int64(i), 10))
			}
		}
	}
}

// readCommitted reads as a consumer with read_committed does.
func (w *world) readCommitted(p *part, all map[int64]read, from, to int64) {
	most := []int32{100, 1000, 1 << 20}[w.rng.IntN(3)]
	got := map[int64]read{}
	for at := from; at < to; {
		resp, c := w.fetch(p, at, true, most)
		if resp.LastStableOffset != to {
			failf("%s: fetch says that the last stable offset is %d, want %d", p.dir(), resp.LastStableOffset, to)
		}
		inside := map[int64]bool{}
		aborted := slices.Clone(resp.AbortedTransactions)
		for _, r := range c.reads {
			for i := 0; i < len(aborted); i++ {
				if aborted[i].FirstOffset <= r.offset {
					inside[aborted[i].ProducerID] = true
					aborted = slices.Delete(aborted, i, i+1)
					i--
				}
			}
			switch {
			case r.offset >= to:
				failf("%s: a committed reader sees offset %d, the last stable offset is %d", p.dir(), r.offset, to)
			case r.batch < 0 && !r.commit:
				delete(inside, r.pid)
			case r.batch >= 0 && r.offset >= from && !(r.inTxn && inside[r.pid]):
				got[r.offset] = r
			}
		}
		if c.next <= at {
			break
		}
		at = c.next
	}
	for offset := from; offset < to; offset++ {
		r, ok := all[offset]
		known := e(p, offset)
		want := ok && r.batch >= 0 && known.visible()
		if _, has := got[offset]; has != want {
			failf("%s: offset %d (batch %d): a committed reader from %d sees it: %v, want %v", p.dir(), offset, r.batch, from, has, want)
		}
	}
}

// byTime asks for offsets by timestamp.
func (w *world) byTime(p *part, got map[int64]read) {
	if p.topic.restamped || p.topic.compacted || len(got) == 0 {
		return
	}
	var offsets []int64
	newest := int64(-1)
	for o, r := range got {
		if r.batch >= 0 {
			offsets = append(offsets, o)
			newest = max(newest, r.ms)
		}
	}
	if len(offsets) == 0 {
		return
	}
	slices.Sort(offsets)
	ask := got[offsets[w.rng.IntN(len(offsets))]].ms + w.rng.Int64N(3) - 1
	first := func(ms int64) (int64, int64) {
		for _, o := range offsets {
			if got[o].ms >= ms {
				return o, got[o].ms
			}
		}
		return -1, -1
	}
	want, wantMs := first(ask)
	for o, r := range got { // markers have timestamps of the broker's clock
		if r.batch < 0 && r.ms >= ask && (want < 0 || o < want) {
			want, wantMs = o, r.ms
		}
	}
	if o, ms := w.list(p, ask, false); o != want || ms != wantMs {
		failf("%s: the first record from %d ms on is at %d (%d ms), want %d (%d ms)", p.dir(), ask, o, ms, want, wantMs)
	}
}
