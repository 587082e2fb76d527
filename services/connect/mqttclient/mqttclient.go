// Package mqttclient is a client of an MQTT broker elsewhere: what it
// subscribes to becomes records, and records of topics become messages.
package mqttclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// Connector is one client.
type Connector struct {
	cfg     site.MQTTClient
	keep    time.Duration
	session time.Duration
}

// New prepares the client of an entry of the profile.
func New(cfg site.MQTTClient) (connect.Connector, error) {
	keep, err := time.ParseDuration(cfg.KeepAlive)
	if err != nil {
		return nil, fmt.Errorf("keep_alive: %w", err)
	}
	session, err := time.ParseDuration(cfg.Session)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return &Connector{cfg: cfg, keep: keep, session: session}, nil
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if box.Trial() {
		c = c.aside(box, "test")
	}
	l, err := c.dial(ctx, box, func(m message) { c.take(ctx, cancel, box, m) })
	if err != nil {
		return err
	}
	defer l.close()
	if len(c.cfg.Subscribe) > 0 {
		if err := l.subscribe(ctx, c.cfg.Subscribe); err != nil {
			return fmt.Errorf("subscribe at %s: %w", c.cfg.Address, err)
		}
	}
	box.Up("connected to " + c.cfg.Address)
	var wg sync.WaitGroup
	defer wg.Wait()
	if len(c.cfg.Publish) > 0 {
		wg.Go(func() {
			cancel(box.Consume(ctx, c.topics(), func(ctx context.Context, rs []*kgo.Record) error { return c.publish(ctx, box, l, rs) }))
		})
	}
	select {
	case err := <-l.lost():
		cancel(err)
		return fmt.Errorf("connection to %s is lost: %w", c.cfg.Address, err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Connector) topics() (names []string) {
	for _, p := range c.cfg.Publish {
		names = append(names, p.Topic)
	}
	return names
}

// take makes a record of a message. It blocks while too much waits, which
// holds the far broker back.
func (c *Connector) take(ctx context.Context, cancel context.CancelCauseFunc, box *connect.Box, m message) {
	h := append([]connect.Header{{Key: "mqtt.qos", Value: strconv.AppendUint(nil, uint64(m.qos), 10)}}, m.headers...)
	if m.retained {
		h = append(h, connect.Header{Key: "mqtt.retain", Value: []byte("1")})
	}
	r := connect.Record{Value: m.payload, Headers: h, Values: map[string]string{"topic": m.topic}}
	box.Post(ctx, r, func(err error) {
		switch {
		case err != nil: // not acknowledged: the far broker sends it again
			cancel(fmt.Errorf("store a message of %s: %w", m.topic, err))
		case m.ack != nil:
			m.ack()
		}
	})
}

// publish sends records as messages. What this connector has made itself is
// left out, or it would go in circles.
func (c *Connector) publish(ctx context.Context, box *connect.Box, l link, rs []*kgo.Record) error {
	var ms []outgoing
	for _, r := range rs {
		i := slices.IndexFunc(c.cfg.Publish, func(p site.Publication) bool { return p.Topic == r.Topic })
		if i < 0 || header(r, "connector") == box.Name() {
			continue
		}
		p := &c.cfg.Publish[i]
		topic, err := p.MQTTTopic(string(r.Key), func(name string) string { return header(r, name) })
		if err == nil && len(r.Value) > maxMessage {
			err = fmt.Errorf("message of %d bytes is larger than %d", len(r.Value), maxMessage)
		}
		if err != nil {
			box.Dead(err.Error(), r.Value, fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset))
			continue
		}
		ms = append(ms, outgoing{topic: topic, payload: r.Value, qos: byte(p.QoS), retain: p.Retain})
	}
	if len(ms) == 0 {
		return nil
	}
	if err := l.publish(ctx, ms); err != nil {
		return fmt.Errorf("publish at %s: %w", c.cfg.Address, err)
	}
	return nil
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// listenFor is how long Browse listens.
const listenFor = 10 * time.Second

// Browse implements connect.Browser: it lists the topics that are published
// to while it listens, and those that have a retained message.
func (c *Connector) Browse(ctx context.Context, box *connect.Box, w io.Writer) error {
	var mu sync.Mutex
	seen := map[string]int{}
	l, err := c.aside(box, "browse").dial(ctx, box, func(m message) {
		mu.Lock()
		defer mu.Unlock()
		if _, known := seen[m.topic]; known || len(seen) < 10000 {
			seen[m.topic]++
		}
	})
	if err != nil {
		return err
	}
	defer l.close()
	zero := 0
	if err := l.subscribe(ctx, []site.MQTTSubscription{{Filter: "#", QoS: &zero}}); err != nil {
		return err
	}
	select {
	case <-time.After(listenFor):
	case err := <-l.lost():
		return err
	case <-ctx.Done():
		return errors.New("interrupted")
	}
	mu.Lock()
	defer mu.Unlock()
	fmt.Fprintln(w, "subscribe:")
	for _, topic := range slices.Sorted(keys(seen)) {
		fmt.Fprintf(w, "  - filter: %q # %d messages in %s\n", topic, seen[topic], listenFor)
	}
	return nil
}

func keys(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
