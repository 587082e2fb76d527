package connect

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// linger lets the records of many connectors share a batch, and a sync of the
// disk; it is what a lone record waits longer.
const linger = 2 * time.Millisecond

// broker is the box's broker, as all connectors share it.
type broker struct {
	cfg *Config
	cl  *kgo.Client
}

func newBroker(cfg *Config) (*broker, error) {
	cl, err := kafka.NewClient(kafka.Config{Bootstrap: cfg.Broker, ClientID: "wayside-connect", Log: cfg.Log},
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.MaxBufferedRecords(1<<20), // what waits is bounded in bytes, by the budgets
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return nil, err
	}
	return &broker{cfg: cfg, cl: cl}, nil
}

func (k *broker) close() { k.cl.Close() }

// of is the backend of one connector.
func (k *broker) of(name string) *account { return &account{broker: k, name: name} }

// account is one connector's part of the broker: its position, and its
// commands.
type account struct {
	*broker
	name string

	mu   sync.Mutex
	last []byte
}

func (a *account) produce(ctx context.Context, r *kgo.Record, done func(error)) {
	a.cl.Produce(ctx, r, func(_ *kgo.Record, err error) { done(err) })
}

func (a *account) commit(ctx context.Context, position []byte, rs []*kgo.Record) error {
	if err := a.cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = position
	return nil
}

func (a *account) position(context.Context) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, nil
}

func (a *account) commands(ctx context.Context, b *Box) error {
	<-ctx.Done()
	return nil
}
