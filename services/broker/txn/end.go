package txn

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// End is a producer's word on the end of its transaction.
type End struct {
	Producer
	Commit bool
	// Bump says that the client takes a new epoch at every end (KIP-890).
	Bump bool
}

// fits checks who asks, and that a decision under way is not contradicted.
func (r End) fits(t meta.Txn) error {
	switch {
	case r.Bump && r.next(t): // which waits
		return nil
	case r.rotated(t):
	case t.ProducerID < 0 || r.ID != t.ProducerID:
		return kerr.InvalidProducerIDMapping
	case !r.validEpoch(t):
		return kerr.ProducerFenced
	}
	if t.State.Ending() && r.Commit != (t.State == meta.TxnPrepareCommit) {
		return kerr.InvalidTxnState
	}
	return nil
}

// rotated recognises a request that was answered with a new producer id.
func (r End) rotated(t meta.Txn) bool {
	return r.Bump && !t.State.Open() && t.PrevProducerID >= 0 && r.ID == t.PrevProducerID && r.Epoch == epochsUsedUp && t.Epoch == 0
}

// again recognises a request whose answer may have been lost.
func (r End) again(t meta.Txn) bool {
	return !r.Bump || r.rotated(t) || r.Epoch == t.Epoch-1
}

func (r End) validEpoch(t meta.Txn) bool {
	switch {
	case !r.Bump || t.State == meta.TxnOngoing || t.State == meta.TxnEmpty:
		return r.Epoch == t.Epoch
	case t.State.Ending():
		return r.Epoch == t.Epoch-1
	}
	return r.Epoch == t.Epoch || r.Epoch == t.Epoch-1
}

// End ends a transaction, and returns the producer id and epoch of the next.
// See the package's comment for when it returns.
func (c *Coordinator) End(ctx context.Context, r End) (id int64, epoch int16, err error) {
	next, ended, err := c.end(ctx, r)
	if err != nil {
		return -1, -1, err
	}
	if ended == nil {
		return next.ProducerID, next.Epoch, nil
	}
	patience := time.NewTimer(c.cfg.Patience)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
	case <-ctx.Done():
	}
	next = completed(next)
	return next.ProducerID, next.Epoch, nil
}

func (c *Coordinator) end(ctx context.Context, r End) (meta.Txn, <-chan struct{}, error) {
	e, t, err := c.hold(ctx, r.Txn, r.fits)
	if err != nil {
		return t, nil, err
	}
	defer e.mu.Unlock()
	switch {
	case t.State == meta.TxnOngoing:
	case t.State == outcome(r.Commit) && r.again(t):
		return t, nil, nil
	case !r.Commit && r.Bump && r.Epoch == t.Epoch && !r.rotated(t):
		// The abort of a transaction in which nothing reached the broker.
	default:
		return t, nil, kerr.InvalidTxnState
	}
	if r.Bump {
		if t.Epoch >= epochsUsedUp {
			if t.NextProducerID, err = c.cfg.Meta.NextProducerID(); err != nil {
				return t, nil, err
			}
		}
		t.LastEpoch = t.Epoch
		t.Epoch++
	}
	t, err = c.decide(e, t, r.Commit)
	return t, e.ended, err
}

func outcome(commit bool) meta.TxnState {
	if commit {
		return meta.TxnCompleteCommit
	}
	return meta.TxnCompleteAbort
}

// fence aborts an open transaction in a new epoch, so that its producer can
// do no more. last is an epoch that may ask for the new one. The id is locked.
func (c *Coordinator) fence(e *entry, t meta.Txn, last int16) error {
	if t.Epoch < lastEpoch {
		t.Epoch++
	}
	t.LastEpoch = last
	_, err := c.decide(e, t, false)
	return err
}

// decide makes the outcome durable and sets off the writing of markers. One
// without partitions is over at once. The id is locked.
func (c *Coordinator) decide(e *entry, t meta.Txn, commit bool) (meta.Txn, error) {
	t.State, t.UpdateMs = meta.TxnPrepareAbort, time.Now().UnixMilli()
	if commit {
		t.State = meta.TxnPrepareCommit
	}
	if len(c.cfg.Meta.TxnPartitions(t.ID)) == 0 {
		t = completed(t)
		return t, c.cfg.Meta.PutTxn(meta.TxnChange{Txn: t})
	}
	if err := c.cfg.Meta.PutTxn(meta.TxnChange{Txn: t}); err != nil {
		return t, err
	}
	c.finish(e, t)
	return t, nil
}

// completed is what an ending transaction becomes.
func completed(t meta.Txn) meta.Txn {
	if t.State.Ending() {
		t.State = outcome(t.State == meta.TxnPrepareCommit)
	}
	t.StartMs = -1
	if t.NextProducerID >= 0 {
		t.PrevProducerID, t.ProducerID, t.NextProducerID = t.ProducerID, t.NextProducerID, -1
		t.LastEpoch, t.Epoch = epochsUsedUp, 0
	}
	return t
}
