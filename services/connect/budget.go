package connect

import (
	"context"
	"sync"
)

// budget bounds bytes that wait. A taker larger than all of it gets through
// alone.
type budget struct {
	mu    sync.Mutex
	max   int64
	used  int64
	freed chan struct{} // closed when something is given back; nil: nobody waits
}

func newBudget(max int64) *budget { return &budget{max: max} }

func (b *budget) take(ctx context.Context, n int64) error {
	n += recordCost
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+n <= b.max {
			b.used += n
			b.mu.Unlock()
			return nil
		}
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n + recordCost
	b.tell()
}

// tell has those look that wait; mu is held.
func (b *budget) tell() {
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

func (b *budget) resize(max int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.max = max
	b.tell()
}
