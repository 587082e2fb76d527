package connect

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// queue holds spooled records until the broker has them, in order.
type queue struct {
	mu     sync.Mutex
	recs   []*kgo.Record
	bytes  int64
	max    int64 // bytes in memory
	filled chan struct{}
	state  *state
}

func newQueue(max int64, s *state) *queue {
	return &queue{max: max, filled: make(chan struct{}, 1), state: s}
}

func (q *queue) put(r *kgo.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recs = append(q.recs, r)
	q.bytes += size(r) + recordCost
	dropped := int64(0)
	for q.bytes > q.max && len(q.recs) > 1 {
		q.bytes -= size(q.recs[0]) + recordCost
		q.recs = q.recs[1:]
		dropped++
	}
	q.state.waits(int64(len(q.recs)), dropped)
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// drain gives records to the broker until ctx ends.
func (q *queue) drain(ctx context.Context, b *Box) {
	for {
		q.mu.Lock()
		lot := q.recs
		q.recs, q.bytes = nil, 0
		q.mu.Unlock()
		if len(lot) == 0 {
			select {
			case <-q.filled:
				continue
			case <-ctx.Done():
				return
			}
		}
		errs := make(chan error, len(lot))
		for _, r := range lot {
			b.back.produce(ctx, r, func(err error) { errs <- err })
		}
		for _, r := range lot {
			if err := <-errs; err == nil {
				b.state.count(1, int64(len(r.Value)), 0)
			}
		}
		q.mu.Lock()
		q.state.waits(int64(len(q.recs)), 0)
		q.mu.Unlock()
	}
}
