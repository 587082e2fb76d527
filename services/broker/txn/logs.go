package txn

import (
	"context"
	"iter"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// Catalog finds logs in a catalog.
func Catalog(c *catalog.Catalog) Logs { return catalogLogs{c} }

type catalogLogs struct{ *catalog.Catalog }

// Log implements Logs.
func (c catalogLogs) Log(p meta.TxnPartition) (Log, error) {
	t := c.ByID(p.Topic)
	if t == nil || p.Partition < 0 || int(p.Partition) >= len(t.Partitions) {
		return nil, ErrGone
	}
	if part := t.Partitions[p.Partition]; part.Log == nil {
		return nil, part.Err
	} else {
		return part.Log, nil
	}
}

// Open implements Logs.
func (c catalogLogs) Open(ctx context.Context) iter.Seq[OpenTxn] {
	return func(yield func(OpenTxn) bool) {
		for _, t := range c.All() {
			for i, p := range t.Partitions {
				if ctx.Err() != nil {
					return
				}
				if p.Log != nil && !eachOpen(p.Log, meta.TxnPartition{Topic: t.ID, Partition: int32(i)}, yield) {
					return
				}
			}
		}
	}
}

func eachOpen(l *store.Log, p meta.TxnPartition, yield func(OpenTxn) bool) bool {
	if _, stable, hw := l.Bounds3(); stable == hw {
		return true
	}
	for _, s := range l.Producers() {
		if s.TxnStart >= 0 && !yield(OpenTxn{p, s.ID}) {
			return false
		}
	}
	return true
}
