package model

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// initialize asks for a producer id. False when there is none.
func (w *world) initialize(p *producer) bool {
	p.stale = p.txid != "" // whatever comes of it, the former epoch may be fenced
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.ProducerID, req.ProducerEpoch = 4, -1, -1
	p.timeout = 15 * time.Minute
	if p.txid != "" {
		if w.rng.IntN(3) == 0 {
			p.timeout = 20 * time.Second
		}
		req.TransactionalID, req.TransactionTimeoutMillis = &p.txid, int32(p.timeout.Milliseconds())
	}
	for range 50 {
		got := w.try(req)
		if got == nil {
			return false
		}
		resp := got.(*kmsg.InitProducerIDResponse)
		w.notef("  init %s: code %d, pid %d, epoch %d", p.name, resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch)
		switch resp.ErrorCode {
		case 0:
			w.initialized(p, resp.ProducerID, resp.ProducerEpoch)
			return true
		case concurrent:
			time.Sleep(100 * time.Millisecond)
		case notAvailable, storageError:
			if !w.excusedState() {
				failf("init %s: code %d", p.name, resp.ErrorCode)
			}
			return false
		default:
			failf("init %s: code %d", p.name, resp.ErrorCode)
		}
	}
	if !w.excusedState() && len(w.damaged) == 0 {
		failf("init %s: the former transaction does not end", p.name)
	}
	return false
}

func (w *world) initialized(p *producer, pid int64, epoch int16) {
	if p.txid == "" || pid != p.pid {
		if w.pids[pid] {
			failf("producer id %d is given twice", pid)
		}
	} else if epoch <= p.epoch {
		failf("%s: epoch %d after %d", p.name, epoch, p.epoch)
	}
	w.pids[pid] = true
	t, ending := p.txn, p.ending
	p.pid, p.epoch, p.stale = pid, epoch, false
	p.reset()
	if t != nil && ending && t.asked {
		w.catchUp() // nobody knows; markers may tell
	}
	p.txn, p.ending = nil, false
	switch {
	case t == nil || t.decided:
	case ending && t.asked:
		for k, v := range t.offs {
			w.committed(k, v, unknown)
		}
		t.offs = nil
	default:
		w.settle(t, false, "a new epoch")
	}
}

// transactional returns a producer with an open or beginning transaction.
func (w *world) transactional() *producer {
	n := w.rng.IntN(3)
	who := w.producer(fmt.Sprintf("txn%d", n), fmt.Sprintf("x%d", n))
	who.modern = n > 0
	late := who.txn != nil && time.Since(who.txn.began) > who.timeout-2*time.Second // it may have been aborted
	if (late || who.stale || who.pid < 0) && !w.initialize(who) {
		return nil
	}
	if who.ending {
		w.end(who, who.txn.asked)
		if who.ending {
			return nil
		}
	}
	if (who.pid < 0 || who.stale) && !w.initialize(who) {
		return nil
	}
	if who.txn == nil {
		who.txn = &txn{who: who, began: time.Now(), offs: map[slotKey]int64{}}
	}
	return who
}

func (w *world) opTransact() {
	who := w.transactional()
	p := w.pick()
	if who == nil || p == nil {
		return
	}
	if w.rng.IntN(4) == 0 {
		w.txnCommit(who, p)
		return
	}
	b := w.next(who, p)
	version := int16(12)
	if !who.modern {
		version = 9
		if !w.addPartition(who, p) {
			who.txn.bad = true
			return
		}
	}
	if !slices.Contains(who.txn.batches, b) {
		who.txn.batches = append(who.txn.batches, b)
	}
	ok := w.result(b, w.send(b, version, -1), -1)
	who.sequenced(b, ok)
	if !ok && w.isDamaged(p.dir()) {
		who.txn.bad = true
	}
}

func (w *world) addPartition(who *producer, p *part) bool {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = 3, who.txid, who.pid, who.epoch
	req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: p.topic.name, Partitions: []int32{p.num}}}
	got := w.try(req)
	if got == nil {
		return false
	}
	return w.stateCode("add a partition for "+who.name, got.(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode)
}

// stateCode judges the answer to a change of state.
func (w *world) stateCode(what string, code int16) bool {
	w.notef("  %s: code %d", what, code)
	switch code {
	case 0:
		return true
	case notAvailable, storageError, concurrent:
		if w.excusedState() || code == concurrent && len(w.damaged) > 0 {
			return false
		}
	}
	failf("%s: code %d", what, code)
	return false
}

// txnCommit commits an offset in a transaction.
func (w *world) txnCommit(who *producer, p *part) {
	k, v := slotKey{fmt.Sprintf("g%d", w.rng.IntN(3)), p.topic, p.num}, int64(w.rng.IntN(1000))
	for _, t := range w.openTxns() {
		if _, ok := t.offs[k]; ok && t != who.txn {
			return // which of two counts is not for the model
		}
	}
	if len(w.groups[k]) > 1 {
		return
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch = 3, who.txid, who.pid, who.epoch
	req.Group, req.Generation = k.group, -1
	if who.modern {
		req.Version = 5
	} else {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.Version, add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = 3, who.txid, who.pid, who.epoch, k.group
		got := w.try(add)
		if got == nil || !w.stateCode("add a group for "+who.name, got.(*kmsg.AddOffsetsToTxnResponse).ErrorCode) {
			who.txn.bad = true
			return
		}
	}
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = p.num, v
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: p.topic.name, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{rp}}}
	got := w.try(req)
	if got == nil || !w.stateCode(fmt.Sprintf("commit %d in the transaction of %s to %s of %s", v, who.name, k.group, p.dir()), got.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode) {
		who.txn.bad = true
		return
	}
	who.txn.offs[k] = v
}

func (w *world) opEnd() {
	if who := w.transactional(); who != nil {
		w.end(who, !who.ending && w.rng.IntN(3) > 0)
	}
}

// end ends the transaction of a producer; if that was begun, with what it
// asked for then.
func (w *world) end(who *producer, commit bool) {
	t := who.txn
	if !who.ending {
		if t.bad || len(who.pending) > 0 {
			commit = false
		}
		if len(t.batches) == 0 && len(t.offs) == 0 && !t.bad {
			return // clients do not end what never began
		}
		t.asked = commit
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = 3, who.txid, who.pid, who.epoch, t.asked
	if who.modern {
		req.Version = 5
	}
	for range 50 {
		who.ending = true
		got := w.try(req)
		if got == nil {
			return
		}
		resp := got.(*kmsg.EndTxnResponse)
		w.notef("  end %s (pid %d, epoch %d) with commit=%v: code %d, pid %d, epoch %d", who.name, who.pid, who.epoch, t.asked, resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch)
		switch {
		case resp.ErrorCode == concurrent:
			time.Sleep(100 * time.Millisecond)
			continue
		case resp.ErrorCode == invalidState && !t.asked && !who.modern:
			// Nothing of it had reached the broker.
		case resp.ErrorCode == fenced && w.full && who.modern && !t.asked:
			// Nothing of it either, and the end before waits for room: Kafka's
			// rules call that fenced. A client asks for a new epoch.
			who.stale = true
			return
		case !w.stateCode("end "+who.name, resp.ErrorCode):
			return
		}
		w.settle(t, t.asked, "the answer to its end")
		who.txn, who.ending = nil, false
		who.pending = map[*part]*batch{}
		if who.modern {
			if resp.ProducerEpoch <= who.epoch {
				failf("end %s: epoch %d after %d", who.name, resp.ProducerEpoch, who.epoch)
			}
			who.pid, who.epoch = resp.ProducerID, resp.ProducerEpoch
			w.pids[who.pid] = true
			who.reset()
		} else if len(t.batches) > 0 && !t.asked {
			who.stale = true // as clients do after an abort: a new epoch
		}
		return
	}
}

// opTakeOver starts another producer of the same transactional id; the former
// one can do nothing any more.
func (w *world) opTakeOver() {
	n := w.rng.IntN(3)
	who := w.producer(fmt.Sprintf("txn%d", n), fmt.Sprintf("x%d", n))
	p := w.pick()
	if who.pid < 0 || p == nil || who.stale {
		return
	}
	zombie := &producer{name: who.name + " (fenced)", txid: who.txid, pid: who.pid, epoch: who.epoch, seqs: maps.Clone(who.seqs)}
	if !w.initialize(who) {
		return
	}
	b := w.make(zombie, p)
	b.pid, b.epoch, b.seq = zombie.pid, zombie.epoch, zombie.seqs[p]
	b.txn = &txn{who: zombie, began: time.Now()}
	w.result(b, w.send(b, []int16{9, 12}[w.rng.IntN(2)], -1), -1, invalidEpoch, fenced, invalidMapping)
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = 3, zombie.txid, zombie.pid, zombie.epoch, true
	if got := w.try(req); got != nil {
		switch code := got.(*kmsg.EndTxnResponse).ErrorCode; code {
		case invalidEpoch, fenced, invalidMapping:
		default:
			if !w.excusedState() {
				failf("a fenced producer of %s ends a transaction: code %d", who.txid, code)
			}
		}
	}
}
