package server

import (
	"context"
	"slices"
	"sync"
)

// budget is memory that callers wait for in a fair line: among addresses it
// goes round, one caller of each at a time, and within one address it is first
// come, first served. So an address with a hundred connections holds out
// another one for no longer than an address with one does. Who is next waits
// until there is as much as it wants, however large that is: nobody overtakes.
type budget struct {
	size int64

	mu    sync.Mutex
	free  int64
	want  int64     // bytes that callers of acquire wait for
	lines []*lineOf // of addresses with somebody who waits; the first is next
}

// lineOf is who waits of one address.
type lineOf struct {
	address string
	waiters []*waiter
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when n is the waiter's
}

func newBudget(n int64) *budget { return &budget{size: n, free: n} }

// tryAcquire takes n, or all there is when n is more, if that much is free and
// nobody waits.
func (b *budget) tryAcquire(n int64) (taken int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.size)
	if len(b.lines) > 0 || n > b.free {
		return n, false
	}
	b.free -= n
	return n, true
}

// acquire waits for n, or for all there is when n is more, in the line of an
// address.
func (b *budget) acquire(ctx context.Context, address string, n int64) (taken int64, err error) {
	w := b.enqueue(address, min(n, b.size))
	select {
	case <-w.ready:
		return w.n, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // at the same moment
		b.free += w.n
	default:
		b.leave(address, w)
	}
	b.grant()
	return w.n, ctx.Err()
}

func (b *budget) enqueue(address string, n int64) *waiter {
	w := &waiter{n: n, ready: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.want += n
	i := slices.IndexFunc(b.lines, func(l *lineOf) bool { return l.address == address })
	if i < 0 {
		i = len(b.lines)
		b.lines = append(b.lines, &lineOf{address: address})
	}
	b.lines[i].waiters = append(b.lines[i].waiters, w)
	b.grant()
	return w
}

// leave takes a waiter out of its line.
func (b *budget) leave(address string, w *waiter) {
	i := slices.IndexFunc(b.lines, func(l *lineOf) bool { return l.address == address })
	l := b.lines[i]
	l.waiters = slices.DeleteFunc(l.waiters, func(o *waiter) bool { return o == w })
	if len(l.waiters) == 0 {
		b.lines = slices.Delete(b.lines, i, i+1)
	}
	b.want -= w.n
}

// grant gives what is free to those whose turn it is.
func (b *budget) grant() {
	for len(b.lines) > 0 {
		l := b.lines[0]
		w := l.waiters[0]
		if w.n > b.free {
			return
		}
		b.free -= w.n
		b.leave(l.address, w)
		close(w.ready)
		if len(l.waiters) > 0 { // behind the other addresses
			b.lines = append(b.lines[1:], l)
		}
	}
}

func (b *budget) release(n int64) {
	if n <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	b.grant()
}
