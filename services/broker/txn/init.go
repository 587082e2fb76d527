package txn

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Init asks for the producer id and epoch of a transactional id.
type Init struct {
	Txn     string
	Timeout time.Duration // of each of its transactions
	// ID and Epoch are what the client has, if it goes on after an error
	// (KIP-360); else -1.
	ID    int64
	Epoch int16
}

// fits checks who asks. The epoch must be the present one, or the one before
// when the answer was lost; before an open transaction is aborted for it, it
// must be the present one.
func (r Init) fits(t meta.Txn) error {
	usedUp := r.ID == t.PrevProducerID && r.Epoch >= epochsUsedUp
	switch {
	case r.ID < 0 || t.Epoch < 0, Producer{ID: r.ID, Epoch: r.Epoch}.next(t):
		return nil
	case r.ID != t.ProducerID && !usedUp,
		r.Epoch != t.Epoch && r.Epoch != t.LastEpoch,
		r.Epoch != t.Epoch && t.State == meta.TxnOngoing:
		return kerr.ProducerFenced
	}
	return nil
}

// Init gives a producer its id and an epoch that fences all before it. An open
// transaction is aborted first: the client is told ConcurrentTransactions, and
// asks again.
func (c *Coordinator) Init(ctx context.Context, r Init) (id int64, epoch int16, err error) {
	switch {
	case r.Txn == "" || len(r.Txn) > maxIDLength || !utf8.ValidString(r.Txn): // the journal keeps text
		return -1, -1, kerr.InvalidRequest
	case r.Timeout <= 0 || r.Timeout > c.cfg.MaxTimeout:
		return -1, -1, kerr.InvalidTransactionTimeout
	}
	if err := c.enter(r.Txn); err != nil {
		return -1, -1, err
	}
	e, t, err := c.hold(ctx, r.Txn, r.fits)
	if err != nil {
		return -1, -1, err
	}
	defer e.mu.Unlock()
	if t.State == meta.TxnOngoing {
		last := int16(-1)
		if r.ID >= 0 {
			last = t.Epoch // the same client: its next request is recognised
		}
		if err := c.fence(e, t, last); err != nil {
			return -1, -1, err
		}
		return -1, -1, kerr.ConcurrentTransactions
	}
	if t, err = c.advance(t, r); err != nil {
		return -1, -1, err
	}
	t.State, t.StartMs, t.UpdateMs = meta.TxnEmpty, -1, time.Now().UnixMilli()
	t.TimeoutMs = int32(r.Timeout.Milliseconds())
	if err := c.cfg.Meta.PutTxn(meta.TxnChange{Txn: t}); err != nil {
		return -1, -1, err
	}
	return t.ProducerID, t.Epoch, nil
}

// advance moves to the next epoch; to the next producer id when there is none.
func (c *Coordinator) advance(t meta.Txn, r Init) (meta.Txn, error) {
	same := r.ID >= 0 && r.Epoch == t.Epoch
	switch {
	case t.ProducerID >= 0 && t.Epoch >= epochsUsedUp && (r.ID < 0 || same):
		t.PrevProducerID, t.LastEpoch = t.ProducerID, -1
		if same {
			t.LastEpoch = t.Epoch
		}
		t.ProducerID = -1
	case r.ID < 0 || t.Epoch < 0:
		t.LastEpoch = -1
		t.Epoch++
	case same:
		t.LastEpoch = t.Epoch
		t.Epoch++
	default: // asked for again: fits has seen that it is the one before
	}
	if t.ProducerID < 0 {
		id, err := c.cfg.Meta.NextProducerID()
		if err != nil {
			return t, err
		}
		t.ProducerID, t.Epoch = id, 0
	}
	return t, nil
}

// enter makes an entry for a new id. When there are too many, the longest
// unused is forgotten: should its producer come back, it finds its producer id
// unknown and asks for a new one.
func (c *Coordinator) enter(id string) error {
	for {
		c.mu.Lock()
		if c.ids[id] != nil {
			c.mu.Unlock()
			return nil
		}
		if len(c.ids) < maxIDs {
			c.ids[id] = &entry{used: time.Now()}
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if !c.forgetOldest() {
			return kerr.CoordinatorNotAvailable // all are in a transaction
		}
	}
}

// forgetOldest forgets the longest unused id that has no open transaction.
func (c *Coordinator) forgetOldest() bool {
	var oldest string
	var at time.Time
	for id, e := range c.all() {
		if !e.mu.TryLock() {
			continue // in use
		}
		if used := e.used; (oldest == "" || used.Before(at)) && !c.get(id).State.Open() {
			oldest, at = id, used
		}
		e.mu.Unlock()
	}
	return oldest != "" && c.forget(oldest)
}

// forget drops an id unless it has an open transaction.
func (c *Coordinator) forget(id string) bool {
	e := c.entry(id)
	if e == nil {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t := c.get(id)
	if e.gone || t.State.Open() {
		return e.gone
	}
	if t.ProducerID >= 0 {
		t.State = meta.TxnDead
		if err := c.cfg.Meta.PutTxn(meta.TxnChange{Txn: t}); err != nil {
			return false
		}
	}
	e.gone = true
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ids, id)
	return true
}
