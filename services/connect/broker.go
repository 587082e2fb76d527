package connect

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// linger lets the records of many connectors share a batch, and a sync of the
// disk; it is what a lone record waits longer.
const linger = 2 * time.Millisecond

// broker is the box's broker, as all connectors share it.
type broker struct {
	cfg     *Config
	cl      *kgo.Client
	mending sync.WaitGroup // of mendAll
	mendMu  sync.Mutex
	mend    []func() // records to be sent a second time, in order

	mu   sync.Mutex
	last error // of the last record that went to the broker

	loneMu sync.Mutex
	lone   *kgo.Client // sends one record at a time
}

func newBroker(cfg *Config) (*broker, error) {
	k := &broker{cfg: cfg}
	var err error
	if k.cl, err = kafka.NewClient(k.config(), k.producing()...); err != nil {
		return nil, err
	}
	k.lone, err = kafka.NewClient(k.config(), append(k.producing(), kgo.ProducerLinger(0))...)
	return k, err
}

func (k *broker) config() kafka.Config {
	return kafka.Config{Bootstrap: k.cfg.Broker, ClientID: "wayside-connect", Log: k.cfg.Log}
}

func (k *broker) producing() []kgo.Opt {
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.MaxBufferedRecords(1 << 20), // what waits is bounded in bytes, by the budgets
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	}
}

// end stops producing; accounts are closed before.
func (k *broker) end() {
	k.cl.Close()
	k.lone.Close()
	k.mending.Wait()
}

// of is the backend of one connector.
func (k *broker) of(name string) *account {
	return &account{broker: k, name: name, answered: newAnswered()}
}

// account is one connector's part of the broker: its position, and its
// commands.
type account struct {
	*broker
	name string

	answered *answered // used by commands only

	ledgerMu sync.Mutex
	ledger   ledger
}

func (a *account) close() {
	a.ledgerMu.Lock()
	defer a.ledgerMu.Unlock()
	a.forget()
}

func (a *account) produce(ctx context.Context, r *kgo.Record, done func(error)) {
	sent := *r // the client changes it, while the queue may be writing it to disk
	sent.Context = nil
	r = &sent
	a.cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
		a.noted(ctx, err)
		if !doubtful(err) || ctx.Err() != nil {
			done(err)
			return
		}
		a.later(func() { done(a.again(ctx, r, err)) })
	})
}

// later has f called behind those before it: a refused batch keeps its order.
func (k *broker) later(f func()) {
	k.mendMu.Lock()
	defer k.mendMu.Unlock()
	if k.mend = append(k.mend, f); len(k.mend) == 1 {
		k.mending.Go(k.mendAll)
	}
}

func (k *broker) mendAll() {
	for more := true; more; {
		k.mendMu.Lock()
		f := k.mend[0]
		k.mendMu.Unlock()
		f()
		k.mendMu.Lock()
		k.mend = k.mend[1:]
		more = len(k.mend) > 0
		k.mendMu.Unlock()
	}
}

// noted remembers how the broker is.
func (k *broker) noted(ctx context.Context, err error) {
	if err != nil && (ctx.Err() != nil || permanent(err)) {
		return // the record's fault, or ours
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = err
}

func (k *broker) problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// doubtful errors may be another's: a broker refuses whole batches, and a
// topic may be another than it was.
func doubtful(err error) bool { return missing(err) || permanent(err) }

func ownDeadLetters(topic string) bool { return strings.HasPrefix(topic, "dead-letters.") }

func missing(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// again sends a record once more, alone in its batch. franz-go never accepts
// the new id of a topic that was deleted and made again until it is told to
// forget the topic; and where the broker makes no topics on demand, dead
// letters still need one.
func (k *broker) again(ctx context.Context, r *kgo.Record, err error) error {
	if missing(err) {
		if ownDeadLetters(r.Topic) {
			_ = k.ensure(ctx, r.Topic, nil)
		}
		k.cl.PurgeTopicsFromProducing(r.Topic)
	}
	k.loneMu.Lock()
	defer k.loneMu.Unlock()
	if missing(err) {
		k.lone.PurgeTopicsFromProducing(r.Topic)
	}
	r.Context = nil
	return k.lone.ProduceSync(ctx, r).FirstErr()
}
