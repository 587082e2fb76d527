package server

import "context"

// waiting completes an answer with what comes out of a channel (one value, and
// a place for it in the channel's buffer). Nothing of the request is held
// meanwhile.
type waiting[T any] struct {
	ch   <-chan T
	fill func(T)
	none T // filled in when the server stops first
}

func (w *waiting[T]) ready() bool { return len(w.ch) > 0 }

func (w *waiting[T]) wait(ctx context.Context) {
	select {
	case v := <-w.ch:
		w.fill(v)
	case <-ctx.Done():
		w.fill(w.none)
	}
}
