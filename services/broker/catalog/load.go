package catalog

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// openBudget is how long Open waits for the logs to be recovered. Those that
// are not by then are recovered when they are first used, or when their turn
// comes.
const openBudget = 300 * time.Millisecond

// unloaded is a log that was opened and not recovered yet.
type unloaded struct {
	topic meta.ID
	part  int
	log   *store.Log
}

// load recovers all logs, and returns when that is done or has taken long.
func (c *Catalog) load() {
	var todo []unloaded
	for _, t := range c.All() {
		for i, p := range t.Partitions {
			todo = append(todo, unloaded{t.ID, i, p.Log})
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop, c.loaded = cancel, make(chan struct{})
	done := make(chan struct{})
	c.loaders.Go(func() {
		defer close(done)
		var g errgroup.Group
		g.SetLimit(openAtOnce)
		for _, u := range todo {
			if ctx.Err() != nil {
				break
			}
			g.Go(func() error {
				if err := u.log.Load(); err != nil {
					c.unusable(u, err)
				}
				return nil
			})
		}
		g.Wait()
		close(c.loaded)
		c.loaders.Go(func() { c.keepAll(ctx) })
	})
	t := time.NewTimer(openBudget)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// Loaded is closed when there is no log left to recover.
func (c *Catalog) Loaded() <-chan struct{} { return c.loaded }

// unusable takes a log that cannot be recovered out of its topic. It does not
// hinder the others.
func (c *Catalog) unusable(u unloaded, err error) {
	c.change.Lock()
	defer c.change.Unlock()
	t := c.ByID(u.topic)
	if t == nil || u.log != t.Partitions[u.part].Log {
		return // deleted meanwhile
	}
	c.opts.Log.Error("open partition", "topic", t.Name, "partition", u.part, "err", err)
	again := *t
	again.Partitions = slices.Clone(t.Partitions)
	again.Partitions[u.part] = Partition{Err: err}
	c.put(&again)
}
