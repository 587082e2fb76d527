package connect

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// Producer gives records to the box's broker. A broker refuses whole batches:
// what it may have refused for another's sake is sent once more, alone.
type Producer struct {
	cl      *kgo.Client
	mending sync.WaitGroup // of mendAll

	mendMu sync.Mutex
	mend   []func() // records to be sent a second time, in order

	loneMu sync.Mutex
	lone   *kgo.Client // sends one record at a time
}

func newProducer(cfg kafka.Config, opts ...kgo.Opt) (*Producer, error) {
	cl, err := kafka.NewClient(cfg, opts...)
	if err != nil {
		return nil, err
	}
	lone, err := kafka.NewClient(cfg, append(opts[:len(opts):len(opts)], kgo.ProducerLinger(0))...)
	if err != nil {
		cl.Close()
		return nil, err
	}
	return &Producer{cl: cl, lone: lone}, nil
}

// Admin asks the same broker; it ends with the Producer.
func (p *Producer) Admin() *kadm.Client { return kadm.NewClient(p.cl) }

// Close stops producing.
func (p *Producer) Close() {
	p.cl.Close()
	p.lone.Close()
	p.mending.Wait()
}

// Produce calls done once, from any goroutine, when r is on the broker's disk,
// with its partition and offset, or will not be. After ctx has ended that may
// take until Close. r is the client's from now on.
func (p *Producer) Produce(ctx context.Context, r *kgo.Record, done func(*kgo.Record, error)) {
	second := *r // the client chooses a partition in r
	p.cl.Produce(ctx, r, func(r *kgo.Record, err error) {
		if !doubtful(err) || ctx.Err() != nil {
			done(r, err)
			return
		}
		p.later(func() { done(&second, p.again(ctx, &second, err)) })
	})
}

// later has f called behind those before it: a refused batch keeps its order.
func (p *Producer) later(f func()) {
	p.mendMu.Lock()
	defer p.mendMu.Unlock()
	if p.mend = append(p.mend, f); len(p.mend) == 1 {
		p.mending.Go(p.mendAll)
	}
}

func (p *Producer) mendAll() {
	for more := true; more; {
		p.mendMu.Lock()
		f := p.mend[0]
		p.mendMu.Unlock()
		f()
		p.mendMu.Lock()
		p.mend = p.mend[1:]
		more = len(p.mend) > 0
		p.mendMu.Unlock()
	}
}

// again sends a record once more, alone in its batch. franz-go never accepts
// the new id of a topic that was deleted and made again until it is told to
// forget the topic; and where the broker makes no topics on demand, dead
// letters still need one.
func (p *Producer) again(ctx context.Context, r *kgo.Record, err error) error {
	if missing(err) {
		if ownDeadLetters(r.Topic) {
			_ = p.ensure(ctx, r.Topic, nil)
		}
		p.cl.PurgeTopicsFromProducing(r.Topic)
	}
	p.loneMu.Lock()
	defer p.loneMu.Unlock()
	if missing(err) {
		p.lone.PurgeTopicsFromProducing(r.Topic)
	}
	return p.lone.ProduceSync(ctx, r).FirstErr()
}

// doubtful errors may be another's: a broker refuses whole batches, and a
// topic may be another than it was.
func doubtful(err error) bool { return missing(err) || permanent(err) }

func ownDeadLetters(topic string) bool { return strings.HasPrefix(topic, "dead-letters.") }

func missing(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}
