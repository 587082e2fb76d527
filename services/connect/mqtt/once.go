package mqtt

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// once stores the QoS 2 messages of persistent sessions: each in one
// transaction with its packet identifier, so that a PUBLISH that comes again
// after a crash, however late, is known. An identifier is forgotten, by
// PUBREL, through the same transactions, before PUBCOMP is sent. The
// transactional id fences what an earlier run of the service has left on its
// way.
type once struct {
	c  *Connector
	in chan *item
	cl *kgo.Client // the run goroutine's own
}

// onceBatch bounds the items of one transaction.
const onceBatch = 1000

func newOnce(c *Connector) *once { return &once{c: c, in: make(chan *item, window)} }

// give hands over an item; false when its device or the service has ended.
func (o *once) give(ctx context.Context, it *item) bool {
	select {
	case o.in <- it:
		return true
	case <-ctx.Done():
		return false
	}
}

// run commits until ctx ends. Items that come together share a transaction.
func (o *once) run(ctx context.Context) {
	defer func() {
		if o.cl != nil {
			o.cl.Close()
		}
	}()
	for {
		select {
		case it := <-o.in:
			batch := []*item{it}
			for len(batch) < onceBatch && len(o.in) > 0 {
				batch = append(batch, <-o.in)
			}
			o.commit(ctx, batch)
		case <-ctx.Done():
			for { // nobody is answered any more, but nobody waits for ever
				select {
				case it := <-o.in:
					it.finish(errStopped)
				default:
					return
				}
			}
		}
	}
}

// commit stores a batch and finishes its items. Those that Kafka will never
// take are left out and the others tried again.
func (o *once) commit(ctx context.Context, batch []*item) {
	for len(batch) > 0 {
		errs, err := o.try(ctx, batch)
		if err != nil {
			o.recover(ctx, batch, err)
			return
		}
		var again []*item
		failed := false
		for i, it := range batch {
			switch {
			case permanent(errs[i]):
				failed = true
				it.finish(errs[i])
			default:
				again = append(again, it)
			}
		}
		if !failed {
			for _, it := range batch {
				it.finish(nil)
			}
			return
		}
		batch = again
	}
}

// try runs one transaction. errs are of the items, when the transaction was
// aborted for them and nothing else; err is anything that leaves it open what
// was stored.
func (o *once) try(ctx context.Context, batch []*item) (errs []error, err error) {
	if o.cl == nil {
		if o.cl, err = o.c.transactional(); err != nil {
			return nil, err
		}
	}
	if err := o.cl.BeginTransaction(); err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, o.c.cfg.AckTimeout)
	defer cancel()
	errs = make([]error, len(batch)) // written by promises, read after Flush
	for i, it := range batch {
		for _, r := range it.records() {
			o.cl.Produce(limit, r, func(_ *kgo.Record, err error) {
				if err != nil && (errs[i] == nil || permanent(err)) {
					errs[i] = err
				}
			})
		}
	}
	if err := o.cl.Flush(limit); err != nil {
		return nil, err
	}
	all := errors.Join(errs...)
	if all != nil {
		if err := o.cl.EndTransaction(limit, kgo.TryAbort); err != nil {
			return nil, errors.Join(all, err)
		}
		for _, e := range errs {
			if permanent(e) {
				return errs, nil
			}
		}
		return nil, all
	}
	return errs, o.cl.EndTransaction(limit, kgo.TryCommit)
}

// recover starts anew after a transaction of unknown end: a new producer ends
// it one way or the other, and then the state topic says which.
func (o *once) recover(ctx context.Context, batch []*item, cause error) {
	o.c.trouble(cause)
	for try := 1; ; try++ {
		l, err := o.restart(ctx)
		if err == nil {
			for _, it := range batch {
				stored := l.received[it.s.id][it.pk.PacketID]
				if stored != it.release { // it is as the item wants it
					it.finish(nil)
				} else {
					it.finish(cause)
				}
			}
			o.c.trouble(nil)
			return
		}
		select {
		case <-time.After(retryPause(try)):
		case <-ctx.Done():
			for _, it := range batch {
				it.finish(errStopped)
			}
			return
		}
	}
}

func (o *once) restart(ctx context.Context) (*loaded, error) {
	if o.cl != nil {
		o.cl.Close()
		o.cl = nil
	}
	cl, err := o.c.transactional()
	if err != nil {
		return nil, err
	}
	o.cl = cl
	limit, cancel := context.WithTimeout(ctx, o.c.cfg.AckTimeout)
	defer cancel()
	if _, _, err := cl.ProducerID(limit); err != nil { // fences, and ends what was open
		return nil, err
	}
	return loadState(limit, o.c.reader)
}
