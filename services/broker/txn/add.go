package txn

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
)

// Add makes partitions part of a producer's transaction, which begins with the
// first. It returns when that is durable.
func (c *Coordinator) Add(ctx context.Context, p Producer, parts []meta.TxnPartition) error {
	e, t, err := c.hold(ctx, p.Txn, p.owns)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if t.State == meta.TxnOngoing {
		if parts = c.cfg.Meta.TxnLacks(p.Txn, parts); len(parts) == 0 {
			return nil
		}
	}
	if c.cfg.Meta.TxnsFull() {
		return kerr.CoordinatorNotAvailable // until others have ended
	}
	if err := c.endBefore(t, parts); err != nil {
		return err
	}
	return c.add(e, t, meta.TxnChange{Partitions: parts})
}

// AddGroup announces offsets of a group (KIP-98; not needed from KIP-890 on).
func (c *Coordinator) AddGroup(ctx context.Context, p Producer, group string) error {
	return c.addGroup(ctx, p, meta.TxnOffsets{Group: group}, true)
}

// CommitOffsets keeps offsets of a group until the end of the transaction.
// implicit begins a transaction and takes a group that was not announced.
func (c *Coordinator) CommitOffsets(ctx context.Context, p Producer, group string, offsets []meta.Offset, implicit bool) error {
	return c.addGroup(ctx, p, meta.TxnOffsets{Group: group, Offsets: offsets}, implicit)
}

func (c *Coordinator) addGroup(ctx context.Context, p Producer, g meta.TxnOffsets, implicit bool) error {
	e, t, err := c.hold(ctx, p.Txn, p.owns)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if !utf8.ValidString(g.Group) {
		return kerr.InvalidGroupID
	}
	has, all := c.cfg.Meta.TxnGroup(p.Txn, g.Group)
	switch {
	case has && len(g.Offsets) == 0:
		return nil
	case !has && !implicit:
		return ErrNotAdded
	case !has && (all >= maxGroups || c.cfg.Meta.OffsetsFull()):
		return kerr.InvalidCommitOffsetSize
	}
	return c.add(e, t, meta.TxnChange{Groups: []meta.TxnOffsets{g}})
}

// add extends the open transaction, or begins one. The id is locked.
func (c *Coordinator) add(e *entry, t meta.Txn, change meta.TxnChange) error {
	now := time.Now()
	fresh := t.State != meta.TxnOngoing
	t.UpdateMs = now.UnixMilli()
	if fresh {
		t.State, t.StartMs = meta.TxnOngoing, t.UpdateMs
	}
	change.Txn = t
	if err := c.cfg.Meta.PutTxn(change); err != nil {
		return err
	}
	if fresh {
		e.deadline = now.Add(timeoutOf(t))
	}
	return nil
}

// Append lets a producer append records to partitions of its transaction: the
// transaction does not end before release is called. implicit adds what is
// missing (KIP-890), in one durable change; else that is ErrNotAdded.
func (c *Coordinator) Append(ctx context.Context, p Producer, parts []meta.TxnPartition, implicit bool) (release func(), err error) {
	for {
		e := c.entry(p.Txn)
		if e == nil {
			return nil, kerr.InvalidProducerIDMapping
		}
		e.mu.RLock()
		t := c.get(p.Txn)
		err := p.owns(t)
		if err == nil && t.State == meta.TxnOngoing && len(c.cfg.Meta.TxnLacks(p.Txn, parts)) == 0 {
			return e.mu.RUnlock, nil
		}
		e.mu.RUnlock()
		switch {
		case err != nil:
			return nil, err
		case !implicit && t.State.Ending():
			return nil, kerr.ConcurrentTransactions
		case !implicit:
			return nil, ErrNotAdded
		}
		if err := c.Add(ctx, p, parts); err != nil {
			return nil, err
		}
	}
}

// Lacking returns those of some partitions that are not in a producer's
// transaction.
func (c *Coordinator) Lacking(p Producer, parts []meta.TxnPartition) ([]meta.TxnPartition, error) {
	t := c.get(p.Txn)
	if err := p.owns(t); err != nil {
		return nil, err
	}
	if t.State.Ending() {
		return nil, kerr.ConcurrentTransactions
	}
	return c.cfg.Meta.TxnLacks(p.Txn, parts), nil
}
