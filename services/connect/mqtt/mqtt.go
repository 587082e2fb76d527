// Package mqtt is the MQTT broker on the box: what devices publish becomes
// records of the Kafka broker, a device hears "acknowledged" only after the
// Kafka broker has said so, and subscribers are served from its log.
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

	"github.com/waysideos/wayside/services/connect/unpack"
	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// Config is what the connector needs to run. Listener, Routes and Broker are
// required.
type Config struct {
	Listener   net.Listener          // devices connect here, in plain text; closed by Run
	Listeners  []site.MQTTListener   // others, opened by New
	Users      string                // file of users; "" for none
	Anonymous  *bool                 // clients of Listener need no name; nil: while there are no users
	ACL        []site.MQTTRule       // none: everybody may do everything
	Secrets    string                // folder of files that the profile names without one
	Routes     []site.Route          // first match wins; what none matches is refused
	Publish    []site.Publication    // from Kafka to MQTT
	Broker     []string              // bootstrap of the box's broker, host:port
	Registerer prometheus.Registerer // nil keeps the metrics to itself
	Log        *slog.Logger          // nil discards
	// AckTimeout is how long a device waits for the Kafka broker before it is
	// disconnected, to send again later; default 30 s.
	AckTimeout time.Duration
}

// Connector is the MQTT broker. Make it with New, then call Run once.
type Connector struct {
	cfg          Config
	routes       []route
	publications []publication
	access       access
	users        *secret.Reloaded[users]
	problems     []manifest.Fact // what of the profile is not in force
	log          *slog.Logger
	metrics      *metrics
	server       *mochi.Server
	lns          []*listener
	kafka        *kgo.Client // messages
	states       *kgo.Client // the state topic
	feed         *feed
	once         *once
	batches      *unpack.Room  // of what readers have unpacked
	followers    chan struct{} // bounds those that read what they missed

	ready   chan struct{}
	loaded  chan struct{} // closed when the state is read
	running atomic.Bool
	cancel  context.CancelCauseFunc
	ctx     context.Context // of every record; ends when Run does
	drains  sync.WaitGroup
	senders sync.WaitGroup

	mu          sync.Mutex
	sessions    map[string]*session // by client
	connections map[*mochi.Client]*connection
	claims      map[string]claim // by client
	refused     refusal          // the last one
	told        time.Time        // when one was last logged
	problem     error            // of the last produce, nil if it worked

	from     map[part]int64 // where retained publications had come to
	savedMu  sync.Mutex
	saved    map[string]string // what the state has of retained publications
	room     atomic.Int64      // bytes of messages that wait for subscribers
	retained retained
	index    index
}

func (c *Connector) notInForce(what string, err error) {
	c.log.Error(what, "error", err)
	c.problems = append(c.problems, manifest.Fact{Name: what, Value: err.Error()})
}

// failed cleans up after a connection that ended between CONNECT and its
// answer, of which the library does not tell.
func (c *Connector) failed(p *peer) {
	c.unclaim(p)
	if d := p.conn; d != nil {
		d.endOnce.Do(func() {
			c.end(d, errNoAnswer)
			d.cancel(errStopped)
			if cl, ok := c.server.Clients.Get(d.cl.ID); ok && cl == d.cl && !d.s.persistent() {
				c.server.UnsubscribeClient(cl)
				c.server.Clients.Delete(cl.ID)
			}
		})
	}
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
	if c.load(ctx) {
		close(c.loaded)
		c.senders.Go(func() { c.once.run(c.ctx) })
		c.senders.Go(func() { c.expire(c.ctx) })
		c.senders.Go(func() { c.keepFeed(c.ctx) })
		<-ctx.Done()
	}
	c.running.Store(false)

	// What waits for a broker that is away would hold the end up for AckTimeout.
	giveUp := time.AfterFunc(stopGrace, func() { c.cancel(errStopped) })
	defer giveUp.Stop()
	_ = c.server.Close()
	for _, l := range c.lns {
		l.wait()
	}
	flush, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	_ = c.kafka.Flush(flush) // for QoS 0 and wills: nobody would send them again
	c.saveFeed()
	_ = c.states.Flush(flush)
	c.cancel(errStopped)
	c.kafka.Close()
	c.states.Close()
	c.drains.Wait()
	c.senders.Wait()
	return nil
}

// load reads the state, however long the broker is away; false says that ctx
// has ended.
func (c *Connector) load(ctx context.Context) bool {
	for try := 1; ; try++ {
		limit, cancel := context.WithTimeout(ctx, c.cfg.AckTimeout)
		err := makeState(limit, c.states)
		var l *loaded
		if err == nil {
			l, err = c.fence(limit)
		}
		cancel()
		if err == nil {
			c.restore(l)
			c.trouble(nil)
			return true
		}
		c.trouble(fmt.Errorf("read sessions: %w", err))
		select {
		case <-time.After(retryPause(try)):
		case <-ctx.Done():
			return false
		}
	}
}

// fence ends what an earlier run has left on its way, and then reads the
// state.
func (c *Connector) fence(ctx context.Context) (*loaded, error) { return c.once.restart(ctx) }

func retryPause(try int) time.Duration { return kafka.Backoff(try, 50*time.Millisecond, 2*time.Second) }

// keepFeed runs the feed all the time where publications are retained, and
// writes how far it has come.
func (c *Connector) keepFeed(ctx context.Context) {
	retained := false
	for i := range c.publications {
		retained = retained || c.publications[i].Retain
	}
	if !retained {
		return
	}
	for try := 1; c.feed.use(ctx, c.from) != nil; try++ {
		select {
		case <-time.After(retryPause(try)):
		case <-ctx.Done():
			return
		}
	}
	defer c.feed.release()
	tick := time.NewTicker(positionEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.saveFeed()
		case <-ctx.Done():
			return
		}
	}
}

// saveFeed writes how far retained publications have come, if that is new.
func (c *Connector) saveFeed() {
	at := map[string]map[string]int64{}
	for p, n := range c.feed.positions() {
		if c.retains(p.topic) {
			if at[p.topic] == nil {
				at[p.topic] = map[string]int64{}
			}
			at[p.topic][p.key()] = n
		}
	}
	c.savedMu.Lock()
	defer c.savedMu.Unlock()
	for topic, next := range at {
		if r := stateRecord(keyFeed+topic, next); c.saved[topic] != string(r.Value) {
			c.saved[topic] = string(r.Value)
			c.produceState(r, nil)
		}
	}
}

func (c *Connector) retains(topic string) bool {
	for i := range c.publications {
		if c.publications[i].Topic == topic {
			return c.publications[i].Retain
		}
	}
	return false
}

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
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	return nil
}

// Status reports connected devices and flows per route. OK is false while
// the box's own broker does not take records, or a listener is not open.
func (c *Connector) Status() manifest.Report {
	c.mu.Lock()
	refused, problem, sessions := c.refused, c.problem, len(c.sessions)
	c.mu.Unlock()
	n := c.connected()
	rep := manifest.Report{
		Name: "mqtt", OK: problem == nil && len(c.problems) == 0,
		Summary: fmt.Sprintf("%d devices connected", n), Facts: c.problems[:len(c.problems):len(c.problems)],
	}
	if problem != nil {
		rep.Summary += "; broker does not take records: " + problem.Error()
	}
	if len(c.problems) > 0 {
		rep.Summary += "; " + c.problems[0].Name
	}
	fact := func(name, format string, v any) {
		rep.Facts = append(rep.Facts, manifest.Fact{Name: name, Value: fmt.Sprintf(format, v)})
	}
	fact("devices", "%d", n)
	fact("waiting for the broker", "%d records", c.kafka.BufferedProduceRecords())
	if refused.topic != "" {
		fact("last refused", "%s", refused)
	}
	fact("sessions", "%d", sessions)
	for i := range c.routes {
		r := &c.routes[i]
		rep.Flows = append(rep.Flows, manifest.Flow{From: r.Filter, To: r.Topic, Records: r.records.Load(), Bytes: r.bytes.Load()})
	}
	return rep
}

func (c *Connector) connected() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.connections)
}
