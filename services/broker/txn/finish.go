package txn

import (
	"context"
	"errors"
	"time"

	"github.com/waysideos/wayside/services/broker/journal"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// retryEvery is how often what a full disk refused is tried again.
const retryEvery = 200 * time.Millisecond

// finish brings a decided end to every partition and then to its completion,
// in the background. The id is locked, or not known to anybody yet.
func (c *Coordinator) finish(e *entry, t meta.Txn) chan struct{} {
	ended := make(chan struct{})
	e.ended = ended
	parts := c.cfg.Meta.TxnPartitions(t.ID)
	c.wg.Go(func() {
		if owed, ok := c.mark(t, parts); ok {
			c.complete(e, meta.TxnChange{Txn: completed(t), Owed: owed})
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.ended == ended { // the next one may be under way already
			e.ended = nil
		}
		close(ended)
	})
	return ended
}

// complete makes a change that must be made, again and again while the disk is
// full. The id stays unlocked in between: it is the state that keeps others
// away.
func (c *Coordinator) complete(e *entry, change meta.TxnChange) {
	for {
		e.mu.Lock()
		change.UpdateMs, e.used = time.Now().UnixMilli(), time.Now()
		err := c.cfg.Meta.PutTxn(change)
		e.mu.Unlock()
		if err == nil {
			return
		}
		if errors.Is(err, journal.ErrBroken) || !c.pause(retryEvery) {
			c.cfg.Log.Error("complete a transaction; the next start does", "transaction", change.ID, "err", err)
			return
		}
	}
}

// pause waits; false when the coordinator is closed.
func (c *Coordinator) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// mark writes a transaction's markers and returns when they are durable: all
// but those owed, to partitions that take no writes in this run. ok is false
// when the coordinator was closed before.
func (c *Coordinator) mark(t meta.Txn, parts []meta.TxnPartition) (owed []meta.TxnMarker, ok bool) {
	todo := make([]meta.TxnMarker, len(parts))
	for i, p := range parts {
		todo[i] = meta.TxnMarker{TxnPartition: p, ProducerID: t.ProducerID, Epoch: t.Epoch, Commit: t.State == meta.TxnPrepareCommit}
	}
	for {
		w := c.write(todo)
		owed = append(owed, w.owed...)
		if len(w.again) == 0 {
			return owed, true
		}
		todo = w.again
		if !c.pause(retryEvery) {
			return nil, false
		}
	}
}

// written is what became of some markers.
type written struct {
	done  []meta.TxnMarker // durable, or there is nothing to end
	again []meta.TxnMarker // the disk is full
	owed  []meta.TxnMarker // the partition takes no writes
}

// write appends markers to their logs, then waits for them, so that the logs
// sync at the same time.
func (c *Coordinator) write(markers []meta.TxnMarker) (w written) {
	waits := make([]func() error, len(markers))
	for i, m := range markers {
		waits[i] = c.append(m)
	}
	for i, m := range markers {
		switch err := waits[i](); {
		case err == nil:
			w.done = append(w.done, m)
		case errors.Is(err, ErrGone), errors.Is(err, store.ErrProducerEpoch):
			c.warn("skip the end of a transaction in a partition", m, err)
			w.done = append(w.done, m)
		case errors.Is(err, store.ErrFull), errors.Is(err, store.ErrFiles), errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
			w.again = append(w.again, m)
		default:
			c.warn("put off the end of a transaction in a partition until the next start", m, err)
			w.owed = append(w.owed, m)
		}
	}
	return w
}

func (c *Coordinator) warn(what string, m meta.TxnMarker, err error) {
	topic := "(deleted)"
	for _, t := range c.cfg.Meta.Topics() {
		if t.ID == m.Topic {
			topic = t.Name
		}
	}
	c.cfg.Log.Warn(what, "topic", topic, "partition", m.Partition, "producer", m.ProducerID, "commit", m.Commit, "err", err)
}

func (c *Coordinator) append(m meta.TxnMarker) (wait func() error) {
	fail := func(err error) func() error { return func() error { return err } }
	l, err := c.cfg.Logs.Log(m.TxnPartition)
	if err != nil {
		return fail(err)
	}
	a, err := l.AppendMarker(m.ProducerID, m.Epoch, m.Commit, c.cfg.Meta.Epoch())
	if err != nil {
		return fail(err)
	}
	return func() error { return l.Wait(c.ctx, a.Next) }
}

// payOwed writes the markers that former runs could not write.
func (c *Coordinator) payOwed() {
	owed := c.cfg.Meta.OwedMarkers()
	if len(owed) == 0 {
		return
	}
	if w := c.write(owed); len(w.done) > 0 {
		if err := c.cfg.Meta.PutTxn(meta.TxnChange{Paid: w.done}); err != nil {
			c.cfg.Log.Error("note markers as written; they are written again at the next start", "err", err)
		}
	}
}
