package txn

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// A transaction hangs when a log has it open and the coordinator does not know
// of it any more: the disk has lost the marker. Left open it would hide all
// that follows from read_committed consumers for ever, and what its producer
// writes next would share its fate. To find one a log must have been
// recovered, and there may be thousands: so clients are served meanwhile, and
// each partition is looked at before it becomes part of a transaction.

// owners are the transactional ids as the last run has left them, by producer
// id. Who is not among them has been given its producer id in this run.
type owners map[int64]meta.Txn

func ownersOf(txns []meta.Txn) owners {
	o := owners{}
	for _, t := range txns {
		o[t.ProducerID] = t
		if _, taken := o[t.PrevProducerID]; !taken {
			o[t.PrevProducerID] = t
		}
	}
	return o
}

// marker is the end of what producer id pid has left in a partition.
func (o owners) marker(p meta.TxnPartition, pid int64, epoch int16) meta.TxnMarker {
	return meta.TxnMarker{TxnPartition: p, ProducerID: pid, Epoch: epoch, Commit: o[pid].State == meta.TxnCompleteCommit}
}

// endHanging looks through all logs.
func (c *Coordinator) endHanging() {
	left := *c.left.Load()
	for o := range c.cfg.Logs.Open(c.ctx) {
		c.endIfHanging(left, o)
	}
	if c.ctx.Err() == nil {
		c.left.Store(nil)
	}
}

// endIfHanging ends a transaction unless it is known, or may be. While its
// owner is locked nobody appends to it.
func (c *Coordinator) endIfHanging(left owners, o OpenTxn) {
	if was, ok := left[o.ProducerID]; ok {
		if e := c.entry(was.ID); e != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
		}
		if t := c.get(was.ID); t.State.Open() && len(c.cfg.Meta.TxnLacks(t.ID, []meta.TxnPartition{o.TxnPartition})) == 0 {
			return
		}
	} else if _, ok := ownersOf(c.cfg.Meta.Txns())[o.ProducerID]; ok {
		return // it has begun in this run
	}
	if slices.ContainsFunc(c.cfg.Meta.OwedMarkers(), func(m meta.TxnMarker) bool { return m.TxnPartition == o.TxnPartition }) {
		return
	}
	l, err := c.cfg.Logs.Log(o.TxnPartition)
	if err != nil {
		return
	}
	if epoch, open := l.OpenTxn(o.ProducerID); open {
		c.end1(left.marker(o.TxnPartition, o.ProducerID, epoch))
	}
}

func (c *Coordinator) end1(m meta.TxnMarker) written {
	c.warn("end a transaction that hangs", m, nil)
	return c.write([]meta.TxnMarker{m})
}

// endBefore ends what hangs of a producer in partitions that are about to
// become part of its next transaction. Its id is locked.
func (c *Coordinator) endBefore(t meta.Txn, parts []meta.TxnPartition) error {
	left := c.left.Load()
	if left == nil {
		return nil // everything was looked at
	}
	for _, p := range parts {
		l, err := c.cfg.Logs.Log(p)
		if err != nil {
			continue // whoever writes there is told
		}
		epoch, open := l.OpenTxn(t.ProducerID)
		if !open {
			continue
		}
		if w := c.end1(left.marker(p, t.ProducerID, epoch)); len(w.again) > 0 {
			return kerr.CoordinatorNotAvailable // until there is room
		}
	}
	return nil
}
