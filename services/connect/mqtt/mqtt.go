// Package mqtt is the MQTT broker on the box: what devices publish becomes
// records of the Kafka broker, and a device hears "acknowledged" only after
// the Kafka broker has said so.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// Config is what the connector needs to run. Listener, Routes and Broker are
// required.
type Config struct {
	Listener   net.Listener          // devices connect here; closed by Run
	Routes     []site.Route          // first match wins; what none matches is refused
	Broker     []string              // bootstrap of the box's broker, host:port
	Registerer prometheus.Registerer // nil keeps the metrics to itself
	Log        *slog.Logger          // nil discards
	// AckTimeout is how long a device waits for the Kafka broker before it is
	// disconnected, to send again later; default 30 s.
	AckTimeout time.Duration
}

// Connector is the MQTT broker. Make it with New, then call Run once.
type Connector struct {
	cfg     Config
	routes  []route
	log     *slog.Logger
	metrics *metrics
	server  *mochi.Server
	ln      *listener
	kafka   *kgo.Client

	ready   chan struct{}
	running atomic.Bool
	cancel  context.CancelCauseFunc
	ctx     context.Context // of every record; ends when Run does
	drains  sync.WaitGroup

	mu       sync.Mutex
	sessions map[*mochi.Client]*session
	refused  refusal   // the last one
	told     time.Time // when one was last logged
	problem  error     // of the last produce, nil if it worked

	retained retained
}

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
	c := &Connector{
		cfg: cfg, routes: routes, log: cfg.Log,
		ready: make(chan struct{}), sessions: map[*mochi.Client]*session{},
		retained: retained{sizes: map[string]int{}},
	}
	if c.metrics, err = newMetrics(cfg.Registerer, c.connected); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.server = newServer(cfg.Log)
	c.ln = newListener(cfg.Listener, cfg.Log, c.metrics.turnedAway)
	if err := errors.Join(c.server.AddHook(&hook{c: c}, nil), c.server.AddListener(c.ln)); err != nil {
		return nil, fmt.Errorf("set up mqtt broker: %w", err)
	}
	c.kafka, err = kafka.NewClient(
		kafka.Config{Bootstrap: cfg.Broker, ClientID: "wayside-mqtt", Log: cfg.Log},
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.AllowAutoTopicCreation(),
		kgo.ProducerLinger(linger), kgo.ProducerBatchMaxBytes(maxBatch),
		kgo.MaxBufferedBytes(maxBuffered), kgo.MaxBufferedRecords(maxBufferedRecords),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),        // one MQTT topic, one partition: its order is kept
		kgo.RecordDeliveryTimeout(max(cfg.AckTimeout, time.Second)), // the least it takes
	)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Run serves devices until ctx ends; a Kafka broker that is away never ends
// it. On return nothing of it runs, and no message is acknowledged that is
// not in Kafka.
func (c *Connector) Run(ctx context.Context) error {
	if err := c.server.Serve(); err != nil {
		return fmt.Errorf("serve mqtt: %w", err)
	}
	c.running.Store(true)
	close(c.ready)
	<-ctx.Done()
	c.running.Store(false)

	_ = c.server.Close()
	c.ln.wait()
	flush, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	_ = c.kafka.Flush(flush) // for QoS 0 and wills: nobody would send them again
	c.cancel(errStopped)
	c.kafka.Close()
	c.drains.Wait()
	return nil
}

var errStopped = errors.New("the connector is stopped")

// Ready is closed when devices can connect.
func (c *Connector) Ready() <-chan struct{} { return c.ready }

// Healthy is nil while the connector serves. It takes the locks that serving
// takes, so a deadlock starves the watchdog.
func (c *Connector) Healthy() error {
	if !c.running.Load() {
		return errors.New("mqtt connector is not running")
	}
	c.connected()
	c.server.Clients.Len()
	return nil
}

// Status reports connected devices and flows per route. OK is false while
// the box's own broker does not take records.
func (c *Connector) Status() manifest.Report {
	c.mu.Lock()
	refused, problem := c.refused, c.problem
	c.mu.Unlock()
	n := c.connected()
	rep := manifest.Report{Name: "mqtt", OK: problem == nil, Summary: fmt.Sprintf("%d devices connected", n)}
	if problem != nil {
		rep.Summary += "; broker does not take records: " + problem.Error()
	}
	fact := func(name, format string, v any) {
		rep.Facts = append(rep.Facts, manifest.Fact{Name: name, Value: fmt.Sprintf(format, v)})
	}
	fact("devices", "%d", n)
	fact("waiting for the broker", "%d records", c.kafka.BufferedProduceRecords())
	if refused.topic != "" {
		fact("last refused", "%s", refused)
	}
	for i := range c.routes {
		r := &c.routes[i]
		rep.Flows = append(rep.Flows, manifest.Flow{From: r.Filter, To: r.Topic, Records: r.records.Load(), Bytes: r.bytes.Load()})
	}
	return rep
}

func (c *Connector) connected() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}
