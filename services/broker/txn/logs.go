package txn

import (
	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
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
func (c catalogLogs) Open() []OpenTxn {
	var out []OpenTxn
	for _, t := range c.All() {
		for i, p := range t.Partitions {
			if p.Log == nil {
				continue
			}
			if _, stable, hw := p.Log.Bounds3(); stable == hw {
				continue
			}
			for _, s := range p.Log.Producers() {
				if s.TxnStart >= 0 {
					out = append(out, OpenTxn{meta.TxnPartition{Topic: t.ID, Partition: int32(i)}, s.ID, s.Epoch})
				}
			}
		}
	}
	return out
}
