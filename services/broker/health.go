package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// beatEvery is how often the broker's own locks are tried.
	beatEvery = 5 * time.Second
	// stuckAfter is when lack of progress is a defect; SD cards are known to
	// stall for several seconds.
	stuckAfter = time.Minute
)

// pulse is when the broker last got through its own locks, Unix ns; 0 while
// it does not run.
type pulse struct{ at atomic.Int64 }

// beat goes where every request has to go, again and again: through the
// topics, a partition's log, the groups and the connections. When one of them
// is stuck the beat stops.
func (b *Broker) beat(ctx context.Context, p *parts) {
	defer b.pulse.at.Store(0)
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for next := 0; ; next++ {
		if topics := p.catalog.All(); len(topics) > 0 {
			parts := topics[next%len(topics)].Partitions
			if l := parts[next%len(parts)].Log; l != nil {
				l.Bounds()
			}
		}
		p.groups.List()
		p.server.Open()
		p.meta.Err()
		b.pulse.at.Store(time.Now().UnixNano())
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Healthy reports whether requests and syncs make progress; nil when idle and
// while the broker starts or stops.
func (b *Broker) Healthy() error {
	if d := b.syncer.Slowest(); d > stuckAfter {
		return fmt.Errorf("a sync of the disk has been running for %v", d.Round(time.Second))
	}
	at := b.pulse.at.Load()
	if d := time.Since(time.Unix(0, at)); at != 0 && d > stuckAfter {
		return fmt.Errorf("the broker has been stuck for %v", d.Round(time.Second))
	}
	return nil
}
