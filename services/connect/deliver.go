package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/spool"
	"github.com/waysideos/wayside/services/kafka"
)

func (q *queue) drain(ctx context.Context, b *Box) {
	for ctx.Err() == nil {
		got, err := q.take()
		if !got {
			var again <-chan time.Time // nil: never
			if err != nil {
				again = time.After(readAgain)
			}
			select {
			case <-q.wake:
			case <-again:
			case <-ctx.Done():
			}
			continue
		}
		if err := q.deliver(ctx, b); err != nil {
			return
		}
		q.landed()
	}
}

// take makes a lot of what is oldest; false when nothing waits, or with an
// error when it cannot be read now: nothing may overtake it.
func (q *queue) take() (bool, error) {
	q.diskMu.Lock()
	defer q.diskMu.Unlock()
	for q.disk != nil && q.disk.Len() > 0 {
		rs, first, err := q.disk.Read(q.disk.Head(), lotBytes)
		if len(rs) > 0 {
			q.mu.Lock()
			q.flight = flight{recs: rs, disk: true, first: first}
			q.mu.Unlock()
			return true, nil
		}
		if err != nil && !spool.Damaged(err) {
			q.lost(0, err)
			return false, err
		}
		n, err2 := q.disk.Skip()
		q.lost(n, fmt.Errorf("spool cannot be read: %w", errors.Join(err, err2)))
		q.tell(n)
		if err2 != nil {
			break
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.mem) && (n == 0 || bytes < lotBytes) {
		bytes += cost(q.mem[n])
		n++
	}
	q.flight = flight{recs: q.mem[:n:n]}
	q.mem, q.bytes = q.mem[n:], q.bytes-bytes
	return n > 0, nil
}

// landed: the broker has the lot.
func (q *queue) landed() {
	q.diskMu.Lock()
	defer q.diskMu.Unlock()
	q.mu.Lock()
	f := q.flight
	q.flight, q.since = flight{}, time.Now()
	q.mu.Unlock()
	if f.disk {
		err := q.disk.Done(f.first + uint64(len(f.recs)))
		if err == nil {
			err = q.disk.Save()
		}
		q.lost(0, err)
	}
	q.tell(0)
}

// deliver returns when the broker has the whole lot, those it refuses for
// good among the dead letters; an error means that ctx has ended.
func (q *queue) deliver(ctx context.Context, b *Box) error {
	q.mu.Lock()
	todo := q.flight.recs
	q.mu.Unlock()
	for tries := 1; len(todo) > 0; tries++ {
		again, err := q.attempt(ctx, b, todo)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if todo = again; len(todo) == 0 {
			break
		}
		b.log.Debug("broker does not take records", "error", err)
		select {
		case <-time.After(kafka.Backoff(tries, 100*time.Millisecond, 5*time.Second)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// attempt returns those records that are to be sent again. When ctx ends it
// does not wait for the client, which lets go of records only when it is
// closed.
func (q *queue) attempt(ctx context.Context, b *Box, todo []*kgo.Record) (again []*kgo.Record, last error) {
	type outcome struct {
		i   int
		err error
	}
	outcomes := make(chan outcome, len(todo))
	for i, r := range todo {
		b.back.produce(ctx, r, func(err error) { outcomes <- outcome{i, err} })
	}
	errs := make([]error, len(todo))
	for range todo {
		select {
		case o := <-outcomes:
			errs[o.i] = o.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for i, r := range todo {
		switch err := errs[i]; {
		case err == nil:
			b.state.count(1, int64(len(r.Value)), 0)
		case !permanent(err):
			again, last = append(again, r), err
		case r.Topic == b.records.DeadLetter:
			if less := b.less(r, err); less != nil {
				again = append(again, less)
			} else {
				b.aside.keep(err, r)
			}
		default:
			b.state.count(0, 0, 1)
			again = append(again, b.deadLetter(err.Error(), r.Value, string(r.Key)))
		}
	}
	return again, last
}
