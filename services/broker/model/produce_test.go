package model

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// make makes a batch of some records.
func (w *world) make(who *producer, p *part) *batch {
	b := &batch{id: len(w.batches), part: p, pid: -1, epoch: -1, seq: -1, who: who, base: -1, at: time.Now(), gzip: w.rng.IntN(5) == 0}
	now := time.Now().UnixMilli()
	for i := range 1 + w.rng.IntN(4) {
		r := rec{key: fmt.Sprintf("k%d", w.rng.IntN(6)), ms: now + int64(w.rng.IntN(2000)) - 1000}
		if w.rng.IntN(5) > 0 {
			r.value = fmt.Appendf(nil, "%d.%d %*s", b.id, i, w.rng.IntN(300), "")
		}
		b.recs = append(b.recs, r)
	}
	w.batches = append(w.batches, b)
	return b
}

func (b *batch) request(version, acks int16) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 30000
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = b.part.topic.name, b.part.topic.id
	t.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: b.part.num, Records: b.encode()}}
	req.Topics = []kmsg.ProduceRequestTopic{t}
	if b.txn != nil {
		req.TransactionID = &b.who.txid
	}
	return req
}

// sent is what became of a batch: a code, or -1 when there was no answer.
type sent struct {
	code int16
	base int64
}

func answer(resp kmsg.Response) sent {
	if resp == nil {
		return sent{-1, -1}
	}
	p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return sent{p.ErrorCode, p.BaseOffset}
}

// result notes an answer. want are codes that refuse, if it must be one.
func (w *world) result(b *batch, got sent, acks int16, want ...int16) bool {
	w.notef("  batch %d of %s (pid %d, epoch %d, seq %d, %d records) to %s: code %d, offset %d", b.id, b.who.name, b.pid, b.epoch, b.seq, len(b.recs), b.part.dir(), got.code, got.base)
	p := b.part
	switch got.code {
	case -1, storageError, notLeader, timedOut, notEnough, notAvailable:
		if !w.excused(p) && !(b.txn != nil && w.excusedState()) {
			failf("%s: batch %d: code %d, and nothing is wrong with the disk", p.dir(), b.id, got.code)
		}
		return false
	case 0:
		if len(want) > 0 {
			failf("%s: batch %d was taken at %d, want one of codes %v", p.dir(), b.id, got.base, want)
		}
		if b.base >= 0 && b.base != got.base {
			failf("%s: batch %d is said to be at %d, it was at %d", p.dir(), b.id, got.base, b.base)
		}
		if b.seen {
			return true
		}
		if got.base < p.end {
			failf("%s: batch %d is said to be at %d, where something else is; the log is known up to %d", p.dir(), b.id, got.base, p.end)
		}
		b.fate, b.base, b.safe = acked, got.base, acks == -1
		return true
	}
	if b.seen || b.fate == acked {
		failf("%s: batch %d at %d is refused with code %d when it is sent again", p.dir(), b.id, b.base, got.code)
	}
	if !slices.Contains(want, got.code) {
		failf("%s: batch %d: code %d, want %v or none", p.dir(), b.id, got.code, want)
	}
	b.fate = never
	p.waiting = slices.DeleteFunc(p.waiting, func(o *batch) bool { return o == b })
	return false
}

// waitFor puts a batch that is being sent among those that may be read.
func (b *batch) waitFor() {
	if !b.seen && !slices.Contains(b.part.waiting, b) {
		b.part.waiting = append(b.part.waiting, b)
	}
	if b.fate == never {
		b.fate = unknown
	}
}

func (w *world) send(b *batch, version, acks int16) sent {
	b.waitFor()
	return answer(w.try(b.request(version, acks)))
}

func (w *world) producer(name, txid string) *producer {
	for _, p := range w.prods {
		if p.name == name {
			return p
		}
	}
	p := &producer{name: name, txid: txid, pid: -1, epoch: -1}
	p.reset()
	w.prods = append(w.prods, p)
	return p
}

func (p *producer) reset() {
	p.seqs, p.recent, p.pending = map[*part]int32{}, map[*part][]*batch{}, map[*part]*batch{}
}

func (w *world) opProduce() {
	p := w.pick()
	if p == nil {
		return
	}
	b := w.make(w.producer(fmt.Sprintf("plain%d", w.rng.IntN(2)), ""), p)
	acks := int16(-1)
	if w.rng.IntN(3) == 0 {
		acks = 1
	}
	w.result(b, w.send(b, []int16{3, 7, 8, 9, 13}[w.rng.IntN(5)], acks), acks)
}

// opBurst sends from several connections at once, so that syncs are shared.
func (w *world) opBurst() {
	n := 2 + w.rng.IntN(4)
	got := make([]sent, n)
	bs := make([]*batch, n)
	reqs := make([]*kmsg.ProduceRequest, n)
	for i := range n {
		p := w.pick()
		if p == nil {
			return
		}
		bs[i] = w.make(w.producer(fmt.Sprintf("burst%d", i), ""), p)
		bs[i].waitFor()
		reqs[i] = bs[i].request(9, -1)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		wg.Go(func() {
			name := fmt.Sprintf("burst%d", i)
			mu.Lock()
			c := w.conns[name]
			mu.Unlock()
			if c == nil {
				nc, err := w.ln.dial()
				if err != nil {
					got[i] = answer(nil)
					return
				}
				c = &client{nc: nc}
				mu.Lock()
				w.conns[name] = c
				mu.Unlock()
			}
			resp, err := c.ask(reqs[i])
			if err != nil {
				c.nc.Close()
				mu.Lock()
				delete(w.conns, name)
				mu.Unlock()
				resp = nil
			}
			got[i] = answer(resp)
		})
	}
	wg.Wait()
	for i := range n {
		w.result(bs[i], got[i], -1)
	}
}

// next is the batch that a producer with an id sends to a partition: the one
// that was not answered, or a new one.
func (w *world) next(who *producer, p *part) *batch {
	if b := who.pending[p]; b != nil {
		return b
	}
	b := w.make(who, p)
	b.pid, b.epoch, b.seq, b.txn = who.pid, who.epoch, who.seqs[p], who.txn
	return b
}

// sequenced notes what became of it.
func (who *producer) sequenced(b *batch, ok bool) {
	if !ok {
		who.pending[b.part] = b
		return
	}
	delete(who.pending, b.part)
	who.seqs[b.part] = b.seq + int32(len(b.recs))
	who.recent[b.part] = append(who.recent[b.part], b)
	if n := len(who.recent[b.part]); n > 5 {
		who.recent[b.part] = who.recent[b.part][n-5:]
	}
}

func (w *world) opIdempotent() {
	who, p := w.producer(fmt.Sprintf("idem%d", w.rng.IntN(2)), ""), w.pick()
	if p == nil || who.pid < 0 && !w.initialize(who) {
		return
	}
	b := w.next(who, p)
	who.sequenced(b, w.result(b, w.send(b, 9, -1), -1))
}

// opAgain sends what was acknowledged once more.
func (w *world) opAgain() {
	who := w.producer(fmt.Sprintf("idem%d", w.rng.IntN(2)), "")
	p := w.pick()
	if p == nil || len(who.recent[p]) == 0 || who.pending[p] != nil {
		return
	}
	b := who.recent[p][w.rng.IntN(len(who.recent[p]))]
	w.result(b, w.send(b, 9, -1), -1)
}

func (w *world) opOutOfOrder() {
	who, p := w.producer(fmt.Sprintf("idem%d", w.rng.IntN(2)), ""), w.pick()
	if p == nil || len(who.recent[p]) == 0 || who.pending[p] != nil {
		return
	}
	b := w.make(who, p)
	b.pid, b.epoch, b.seq = who.pid, who.epoch, who.seqs[p]+7
	w.result(b, w.send(b, 9, -1), -1, outOfOrder)
}
