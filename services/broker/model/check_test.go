package model

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Error codes of the protocol that the model tells apart.
const (
	outOfRange     = 1
	unknownTopic   = 3
	notLeader      = 6
	timedOut       = 7
	notAvailable   = 15
	notEnough      = 19
	topicExists    = 36
	policy         = 44
	outOfOrder     = 45
	invalidEpoch   = 47
	invalidState   = 48
	invalidMapping = 49
	concurrent     = 51
	storageError   = 56
	noGroup        = 69
	fenced         = 90
	abortable      = 120
)

func (w *world) fetch(p *part, offset int64, committed bool, most int32) (kmsg.FetchResponseTopicPartition, chunk) {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.SessionEpoch = 12, 1<<20, -1
	if committed {
		req.IsolationLevel = 1
	}
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p.num, offset, most, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = p.topic.name, []kmsg.FetchRequestTopicPartition{rp}
	if w.rng.IntN(3) == 0 {
		req.Version, rt.TopicID = 13, p.topic.id
	}
	req.Topics = []kmsg.FetchRequestTopic{rt}
	resp := w.must(req).(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		failf("fetch %s at %d: code %d, %d topics", p.dir(), offset, resp.ErrorCode, len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 && got.ErrorCode != outOfRange {
		if w.dead() {
			panic(down{})
		}
		failf("fetch %s at %d: code %d", p.dir(), offset, got.ErrorCode)
	}
	c, err := decode(got.RecordBatches, offset)
	if err != nil {
		failf("fetch %s at %d: %v", p.dir(), offset, err)
	}
	return got, c
}

func (w *world) list(p *part, ms int64, committed bool) (offset, at int64) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 7
	if committed {
		req.IsolationLevel = 1
	}
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p.num, ms, -1
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: p.topic.name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{rp}}}
	got := w.must(req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		if w.dead() {
			panic(down{})
		}
		failf("list offsets of %s: code %d", p.dir(), got.ErrorCode)
	}
	return got.Offset, got.Timestamp
}

// catchUp reads what is new in all partitions.
func (w *world) catchUp() { w.eachPart(w.extend) }

// extend reads what is new in a partition: each batch is one that was sent, at
// the offset that was told, once, whole, and in order.
func (w *world) extend(p *part) {
	for {
		got, c := w.fetch(p, p.end, false, 1<<20)
		if got.ErrorCode == outOfRange {
			start, _ := w.list(p, -2, false)
			if start <= p.end {
				hw, _ := w.list(p, -1, false)
				failf("%s: known up to %d, the log is %d to %d now", p.dir(), p.end, start, hw)
			}
			w.moved(p, start)
			p.end = start
			// Retention leaves alone what is open: the markers were there, unread.
			p.open = slices.DeleteFunc(p.open, func(e *entry) bool { return e.base < start })
			continue
		}
		counts := map[*batch]int{}
		for _, r := range c.reads {
			if r.offset >= p.end || r.batch >= 0 && counts[w.batchOf(p, r)] > 0 {
				w.take(p, r, counts)
			}
		}
		for b, n := range counts {
			if n != len(b.recs) && !p.topic.compacted {
				failf("%s: %d of %d records of batch %d at %d", p.dir(), n, len(b.recs), b.id, b.base)
			}
		}
		upTo := c.next
		if len(c.reads) == 0 {
			upTo = got.HighWatermark
		}
		if upTo > p.end {
			w.gap(p, upTo)
		}
		if p.end >= got.HighWatermark || p.end >= upTo && len(c.reads) == 0 {
			break
		}
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(b *batch) bool {
		if !b.seen && b.fate == acked && b.base+int64(len(b.recs)) <= p.start {
			return true
		}
		if !b.seen && b.fate == acked && b.base < p.end && (b.safe || !w.fresh) {
			failf("%s: batch %d was acknowledged at %d and is not there; the log is known up to %d", p.dir(), b.id, b.base, p.end)
		}
		return b.seen
	})
}

func (w *world) batchOf(p *part, r read) *batch {
	if r.batch >= len(w.batches) {
		failf("%s: offset %d holds batch %d that was never sent", p.dir(), r.offset, r.batch)
	}
	return w.batches[r.batch]
}

// take notes one record that was read.
func (w *world) take(p *part, r read, counts map[*batch]int) {
	if r.batch < 0 {
		w.gap(p, r.offset)
		e := &entry{base: r.offset, n: 1, pid: r.pid, commit: r.commit}
		p.known, p.end = append(p.known, e), r.offset+1
		w.marked(p, e)
		return
	}
	b := w.batchOf(p, r)
	base := r.offset - int64(r.index)
	switch {
	case b.part != p:
		failf("%s: offset %d holds batch %d of %s", p.dir(), r.offset, b.id, b.part.dir())
	case b.fate == never:
		failf("%s: offset %d holds batch %d, which was refused or absent before", p.dir(), r.offset, b.id)
	case b.seen && b.base != base:
		failf("%s: batch %d is stored twice, at %d and at %d", p.dir(), b.id, b.base, base)
	case b.base >= 0 && b.base != base:
		failf("%s: batch %d was acknowledged at %d and lies at %d", p.dir(), b.id, b.base, base)
	}
	w.same(p, r)
	counts[b]++
	if b.seen {
		return
	}
	w.gap(p, base)
	w.add(p, b, base)
}

// add notes a batch at the end of what is known.
func (w *world) add(p *part, b *batch, base int64) {
	b.seen, b.base = true, base
	if n := p.lastSent[b.who]; n > b.id {
		failf("%s: batch %d of %s at %d lies behind its batch %d, which was sent later", p.dir(), b.id, b.who.name, base, n)
	}
	p.lastSent[b.who] = b.id
	e := &entry{base: base, n: int64(len(b.recs)), b: b, pid: b.pid}
	p.known, p.end = append(p.known, e), base+e.n
	if b.txn != nil {
		p.open = append(p.open, e)
	}
}

// gap is where nothing was read: compaction may have taken what was there.
func (w *world) gap(p *part, to int64) {
	if to <= p.end {
		return
	}
	if !p.topic.compacted {
		failf("%s: nothing is at %d; the next is at %d", p.dir(), p.end, to)
	}
	slices.SortFunc(p.waiting, func(a, b *batch) int { return int(a.base - b.base) })
	for _, b := range p.waiting {
		if !b.seen && b.fate == acked && b.base >= p.end && b.base < to {
			w.add(p, b, b.base)
		}
	}
	p.end = max(p.end, to)
}

// marked ends a producer's transaction in a partition.
func (w *world) marked(p *part, m *entry) {
	p.open = slices.DeleteFunc(p.open, func(e *entry) bool {
		if e.pid != m.pid {
			return false
		}
		e.over, e.commit = true, m.commit
		w.settle(e.b.txn, m.commit, "a marker in "+p.dir()+" at "+strconv.FormatInt(m.base, 10))
		return true
	})
}

// same compares a record with what was sent.
func (w *world) same(p *part, r read) {
	b := w.batchOf(p, r)
	if r.index >= len(b.recs) {
		failf("%s: offset %d: batch %d has no record %d", p.dir(), r.offset, b.id, r.index)
	}
	want := b.recs[r.index]
	if r.key != want.key || !bytes.Equal(r.value, want.value) || (r.value == nil) != (want.value == nil) || (r.ms != want.ms && !p.topic.restamped) {
		failf("%s: offset %d: record %d.%d was changed: %+v, sent %+v", p.dir(), r.offset, b.id, r.index, r, want)
	}
}

// moved judges a log start that is new.
func (w *world) moved(p *part, start int64) {
	if start == p.start {
		return
	}
	if start < p.start {
		failf("%s: the log starts at %d, it was %d before", p.dir(), start, p.start)
	}
	w.mayBe(p, start)
	p.start = start
}

func (w *world) mayBe(p *part, start int64) {
	t := p.topic
	if start <= p.mayStart || t.loose || w.fullOnce && t.conf["wayside.full"] == "drop-oldest" {
		return
	}
	if t.conf["cleanup.policy"] != "compact" {
		ms, size := t.number("retention.ms", 7*24*3600*1000), t.number("retention.bytes", -1)
		young, left := false, int64(0)
		for _, e := range p.known {
			if e.base >= start {
				left += e.bytes()
			} else if e.b != nil && time.Since(e.b.at).Milliseconds() <= ms {
				young = true
			}
		}
		if !young || size >= 0 && (left >= size || t.compacted) {
			return
		}
	}
	failf("%s: the log starts at %d, it was %d, and nothing explains that: %v", p.dir(), start, p.start, t.conf)
}

func (e *entry) bytes() int64 {
	if e.b == nil {
		return 78
	}
	return int64(len(e.b.encode()))
}
