package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/unpack"
	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/secret"
)

// New checks the routes and opens what Run needs; it serves nobody yet.
func New(cfg Config) (*Connector, error) {
	if cfg.Listener == nil {
		return nil, errors.New("mqtt config: no listener")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.AckTimeout <= 0 {
		cfg.AckTimeout = 30 * time.Second
	}
	routes, err := parseRoutes(cfg.Routes)
	if err != nil {
		return nil, err
	}
	publications, err := parsePublications(cfg.Publish)
	if err != nil {
		return nil, err
	}
	c := &Connector{
		cfg: cfg, routes: routes, publications: publications, access: cfg.ACL, log: cfg.Log,
		ready: make(chan struct{}), loaded: make(chan struct{}), followers: make(chan struct{}, maxFollowers),
		sessions: map[string]*session{}, connections: map[*mochi.Client]*connection{}, claims: map[string]claim{},
		saved:    map[string]string{},
		retained: retained{messages: map[string]*message{}, flying: map[string]*flying{}},
	}
	if c.metrics, err = newMetrics(cfg.Registerer, c.connected); err != nil {
		return nil, err
	}
	if c.batches, err = unpack.NewRoom(unpacked); err != nil {
		return nil, err
	}
	c.retained.refused = c.metrics.unretained
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.server = newServer(cfg.Log)
	c.feed, c.once = newFeed(c), newOnce(c)
	if err := c.server.AddHook(&hook{c: c}, nil); err != nil {
		return nil, fmt.Errorf("set up mqtt broker: %w", err)
	}
	if err := c.openClients(); err != nil {
		return nil, err
	}
	return c, c.openListeners()
}

// openClients makes the Kafka clients; nothing is dialled yet.
func (c *Connector) openClients() (err error) {
	c.kafka, err = c.open(
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowAutoTopicCreation(),
		kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.MaxBufferedBytes(maxBuffered), kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),          // one MQTT topic, one partition: its order is kept
		kgo.RecordDeliveryTimeout(max(c.cfg.AckTimeout, time.Second)), // the least it takes
	)
	if err != nil {
		return err
	}
	c.states, err = c.open(
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.MaxBufferedBytes(maxStateBytes), kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.RecordDeliveryTimeout(max(c.cfg.AckTimeout, time.Second)),
	)
	return err
}

func (c *Connector) open(opts ...kgo.Opt) (*kgo.Client, error) {
	return kafka.NewClient(kafka.Config{Bootstrap: c.cfg.Broker, ClientID: "wayside-mqtt", Log: c.cfg.Log}, opts...)
}

// transactional makes the client of once.
func (c *Connector) transactional() (*kgo.Client, error) {
	return c.open(
		kgo.TransactionalID("wayside-mqtt"), kgo.TransactionTimeout(time.Minute), kgo.AllowAutoTopicCreation(),
		kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.RecordDeliveryTimeout(max(c.cfg.AckTimeout, time.Second)),
	)
}

// openListeners opens those of the profile. One that cannot be opened is a
// problem to be seen, and not the end of the others: no profile takes a site
// down.
func (c *Connector) openListeners() error {
	anonymous := c.cfg.Users == ""
	if c.cfg.Users != "" {
		file := secret.Path(c.cfg.Secrets, c.cfg.Users)
		var err error
		if c.users, err = secret.Reload(c.log, func() (*users, error) { return readUsers(file) }, file); err != nil {
			c.notInForce("users are not known", err)
		}
	}
	first := &listener{Listener: c.cfg.Listener, name: "mqtt", anonymous: anonymous}
	if c.cfg.Anonymous != nil {
		first.anonymous = *c.cfg.Anonymous
	}
	c.lns = append(c.lns, first)
	for i := range c.cfg.Listeners {
		l := &c.cfg.Listeners[i]
		ln, err := listenTLS(l, c.cfg.Secrets, anonymous, c.log)
		if err != nil {
			c.notInForce("listener "+l.Name+" is not open", err)
			continue
		}
		c.log.Info("listening", "listener", l.Name, "address", ln.Addr().String())
		c.lns = append(c.lns, ln)
	}
	for _, l := range c.lns {
		l.log, l.open, l.turnedAway, l.failed = c.log, c.loaded, c.metrics.turnedAway, c.failed
		l.turns = make(chan struct{}, runtime.GOMAXPROCS(0))
		l.conns, l.closed, l.left = map[net.Conn]struct{}{}, make(chan struct{}), make(chan struct{}, 1)
		if err := c.server.AddListener(l); err != nil {
			return fmt.Errorf("set up mqtt listener %s: %w", l.name, err)
		}
	}
	return nil
}
