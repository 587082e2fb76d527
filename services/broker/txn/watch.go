package txn

import (
	"iter"
	"maps"
	"time"

	"github.com/waysideos/wayside/services/broker/meta"
)

// watchEvery is how late a transaction may be aborted.
const watchEvery = time.Second

// watch aborts transactions that take too long and forgets unused ids.
func (c *Coordinator) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.look(time.Now())
		case <-c.ctx.Done():
			return
		}
	}
}

// all returns the entries of the moment.
func (c *Coordinator) all() iter.Seq2[string, *entry] {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.All(maps.Clone(c.ids))
}

// look goes over all ids once. Ages come from the monotonic clock.
func (c *Coordinator) look(now time.Time) {
	for id, e := range c.all() {
		if !e.mu.TryLock() {
			continue // in use; the next look comes soon
		}
		t := c.get(id)
		switch {
		case e.gone || t.State.Ending():
		case t.State == meta.TxnOngoing:
			if now.After(e.deadline) {
				c.timeOut(e, t)
			}
		case now.Sub(e.used) > c.cfg.Expiry:
			e.mu.Unlock()
			c.forget(id)
			continue
		}
		e.mu.Unlock()
	}
}

func (c *Coordinator) timeOut(e *entry, t meta.Txn) {
	c.cfg.Log.Warn("abort a transaction that takes too long", "transaction", t.ID, "producer", t.ProducerID, "timeout", timeoutOf(t))
	if err := c.fence(e, t, -1); err != nil {
		c.cfg.Log.Error("abort a transaction that takes too long", "transaction", t.ID, "err", err)
	}
}
