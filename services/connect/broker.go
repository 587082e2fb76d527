package connect

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// linger lets the records of many connectors share a batch, and a sync of the
// disk; it is what a lone record waits longer. What comes while a batch is on its
// way waits for it anyway, so that a slow disk is not synced more often.
const linger = 500 * time.Microsecond

// broker is the box's broker, as all connectors share it.
type broker struct {
	*Producer
	cfg *Config

	mu   sync.Mutex
	last error // of the last record that went to the broker
}

func newBroker(cfg *Config) (*broker, error) {
	k := &broker{cfg: cfg}
	var err error
	k.Producer, err = newProducer(k.config(), k.producing()...)
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
	a.Produce(ctx, &sent, func(_ *kgo.Record, err error) {
		a.noted(ctx, err)
		done(err)
	})
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
