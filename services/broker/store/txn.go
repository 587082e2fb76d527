package store

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"syscall"
)

// txns are the transactions that hold the last stable offset back.
type txns struct {
	open  []openTxn  // by first offset
	ended []endedTxn // by marker: those whose marker cannot be read yet
}

type openTxn struct{ pid, first int64 }

type endedTxn struct{ first, marker int64 }

// stable is the last stable offset for a high watermark.
func (t *txns) stable(hw int64) int64 {
	if len(t.open) > 0 {
		hw = min(hw, t.open[0].first)
	}
	for _, e := range t.ended {
		hw = min(hw, e.first)
	}
	return hw
}

// settle forgets the ended transactions whose marker lies below hw.
func (t *txns) settle(hw int64) {
	n := 0
	for n < len(t.ended) && t.ended[n].marker < hw {
		n++
	}
	t.ended = slices.Delete(t.ended, 0, n)
}

// end takes a transaction out of the open ones.
func (t *txns) end(first, marker int64) {
	i := sort.Search(len(t.open), func(i int) bool { return t.open[i].first >= first })
	if i < len(t.open) && t.open[i].first == first {
		t.open = slices.Delete(t.open, i, i+1)
	}
	t.ended = append(t.ended, endedTxn{first, marker})
}

// noteProducer accounts for a batch with a producer id at the log's end.
func (l *Log) noteProducer(h Header, c control, coordinator int32) {
	p := l.prods.at(h.ProducerID, h.ProducerEpoch)
	p.SeenMs = l.age
	switch c {
	case data:
		p.note(h)
		if h.Transactional() && p.Txn == nil {
			first := h.BaseOffset // not &h.BaseOffset: that would cost every batch an allocation
			p.Txn = &first
			l.txns.open = append(l.txns.open, openTxn{h.ProducerID, h.BaseOffset})
			l.transactional = true
		}
	case abortMarker, commitMark:
		l.transactional, l.marked = true, h.BaseOffset+1
		by := coordinator
		p.Coord, p.LastMs = &by, h.MaxTimestamp
		if p.Txn != nil {
			l.endTxn(p, h.BaseOffset, c == abortMarker)
		}
	}
}

func (l *Log) endTxn(p *producer, marker int64, aborted bool) {
	first := *p.Txn
	p.Txn = nil
	l.txns.end(first, marker)
	if !aborted {
		return
	}
	stable := marker + 1
	if len(l.txns.open) > 0 {
		stable = l.txns.open[0].first
	}
	l.act.aborted = append(l.act.aborted, AbortedTxn{p.ID, first, marker, stable})
}

// restoreTxns takes the open transactions from what recovery found.
func (l *Log) restoreTxns() {
	l.txns = txns{}
	for _, p := range l.prods {
		if p.Txn != nil {
			l.txns.open = append(l.txns.open, openTxn{p.ID, *p.Txn})
		}
	}
	slices.SortFunc(l.txns.open, func(a, b openTxn) int { return cmp.Compare(a.first, b.first) })
}

// markTransactional makes durable, before the first transactional batch of a
// log, that there are such. A release that does not know of transactions must
// not open the log: it would take aborted records for good ones.
func (l *Log) markTransactional() error {
	c := l.saved
	c.Transactional = true
	err := l.save(c)
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("begin transactions in %s: %w", l.dir, ErrFull)
	}
	if err != nil {
		l.fail(fmt.Errorf("begin transactions in %s: %v", l.dir, err))
		return l.err
	}
	l.transactional = true
	return nil
}

// AppendMarker writes the control batch that ends pid's transaction in this
// partition. It is durable when Wait(Next) returns. Without an open
// transaction the marker is written all the same. An epoch older than the
// newest seen is ErrProducerEpoch; a newer one fences those before it, and
// its first batch has sequence 0 (KIP-890).
func (l *Log) AppendMarker(pid int64, epoch int16, commit bool, coordinatorEpoch int32) (Appended, error) {
	if pid < 0 || epoch < 0 {
		return Appended{}, fmt.Errorf("%w: marker of producer id %d, epoch %d", ErrInvalid, pid, epoch)
	}
	c := abortMarker
	if commit {
		c = commitMark
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := newMarker(pid, epoch, c, coordinatorEpoch, l.appendTime())
	h, err := ParseHeader(b)
	if err != nil {
		return Appended{}, err
	}
	if err := l.roomFor(markerSize, h); err != nil {
		return Appended{}, err
	}
	if err := l.prods.checkMarker(pid, epoch, coordinatorEpoch); err != nil {
		return Appended{}, err
	}
	return l.put(b, h, true)
}

// Bounds3 returns the log start, the last stable offset (what lies before it
// belongs to no open transaction) and the high watermark, in rising order.
func (l *Log) Bounds3() (start, lastStable, hw int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start, l.lastStable(), l.hw
}

// forgetBehindEnd drops what the checkpoint knows of records that recovery
// did not find: the segment was damaged. It ends recovery.
func (l *Log) forgetBehindEnd() {
	for _, p := range l.prods {
		if p.Txn != nil && *p.Txn >= l.leo {
			p.Txn = nil
		}
	}
	l.restoreTxns()
	n := len(l.act.aborted)
	for n > 0 && l.act.aborted[n-1].LastOffset >= l.leo {
		n--
	}
	l.act.aborted = l.act.aborted[:n]
}

func (l *Log) lastStable() int64 { return max(l.start, l.txns.stable(l.hw)) }

// ProducerState is what DescribeProducers tells of one producer.
type ProducerState struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1 when it has written nothing in this epoch
	LastMs           int64 // timestamp of its last batch; -1 when there is none
	CoordinatorEpoch int32 // of its last marker; -1 when there is none
	TxnStart         int64 // first offset of its open transaction; -1 when there is none
}

// Producers returns the producers that the log remembers, by id.
func (l *Log) Producers() []ProducerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]ProducerState, 0, len(l.prods))
	for _, id := range slices.Sorted(maps.Keys(l.prods)) {
		out = append(out, l.prods[id].state())
	}
	return out
}

func (p *producer) state() ProducerState {
	s := ProducerState{ID: p.ID, Epoch: p.Epoch, LastSequence: -1, LastMs: p.LastMs, CoordinatorEpoch: -1, TxnStart: -1}
	if n := len(p.Batches); n > 0 {
		s.LastSequence = p.Batches[n-1].Last
	} else if p.Coord == nil {
		s.LastMs = -1
	}
	if p.Coord != nil {
		s.CoordinatorEpoch = *p.Coord
	}
	if p.Txn != nil {
		s.TxnStart = *p.Txn
	}
	return s
}

// OpenTxn reports whether a producer has an open transaction here, and the
// newest epoch that was seen of it.
func (l *Log) OpenTxn(pid int64) (epoch int16, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.prods[pid]
	if p == nil {
		return -1, false
	}
	return p.Epoch, p.Txn != nil
}
