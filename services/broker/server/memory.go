package server

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// memory bounds what all requests together hold. Records and everything else
// have a budget each, so that heartbeats never wait behind records.
type memory struct {
	records, control *budget
	pools            [poolClasses]sync.Pool
}

type budget struct {
	size int64
	sem  *semaphore.Weighted
}

func newBudget(n int64) *budget { return &budget{n, semaphore.NewWeighted(n)} }

// acquire takes n, or all there is when n is more.
func (b *budget) acquire(ctx context.Context, n int64) (release func(), err error) {
	n = min(n, b.size)
	if err := b.sem.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { b.sem.Release(n) }, nil
}

func newMemory(n int64) *memory {
	return &memory{records: newBudget(n), control: newBudget(n / 2)}
}

// decodeFactor is how much larger a decoded request may be than its bytes: a
// few bytes of an array's element become a struct.
const decodeFactor = 64

// Buffers are pooled by powers of two; longer ones are left to the collector.
// The collector empties the pools too, so an idle broker holds none.
const (
	minPool     = 10 // 1 KiB
	maxPool     = 22 // 4 MiB
	poolClasses = maxPool - minPool + 1
)

func class(n int) int { return max(bits.Len(uint(max(n, 1)-1)), minPool) - minPool }

func (m *memory) get(n int) []byte {
	c := class(n)
	if c >= poolClasses {
		return make([]byte, n)
	}
	if p, ok := m.pools[c].Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, n, 1<<(c+minPool))
}

func (m *memory) put(b []byte) {
	c := class(cap(b))
	if c < poolClasses && cap(b) == 1<<(c+minPool) {
		b = b[:cap(b)]
		m.pools[c].Put(&b)
	}
}
