package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// produce stores a QoS 1 or 2 message of a device; if it is retained, the
// state has it before the item is finished.
func (c *Connector) produce(d *connection, it *item) {
	// Blocks while all devices together wait for too much; the drain, which
	// has the item, ends that.
	c.kafka.Produce(d.ctx, it.m.record(it.r.Topic, it.at), func(_ *kgo.Record, err error) {
		if err == nil && it.m.retain {
			c.keep(it.m, it.finish)
			return
		}
		it.finish(err)
	})
}

// fireAndForget sends a message nobody waits for. It never blocks, and leaves
// room for those that somebody does wait for. It is false when there is no
// route.
func (c *Connector) fireAndForget(r *route, m *message) bool {
	if r == nil {
		c.refuse(m.origin, m.topic, noRoute)
		return false
	}
	if m.retain {
		c.retain(m)
	}
	if c.kafka.BufferedProduceBytes() > maxFireForget {
		c.refuse(m.origin, m.topic, overflow)
		return true
	}
	c.kafka.TryProduce(c.ctx, m.record(r.Topic, time.Now()), func(_ *kgo.Record, err error) {
		c.stored(r, m, err)
		if err != nil {
			c.refuse(m.origin, m.topic, failed)
		}
	})
	return true
}

// retain keeps a message that nobody waits for as the retained one of its
// topic, if there is room.
func (c *Connector) retain(m *message) {
	if c.retained.fits(m) {
		c.keep(m, nil)
	}
}

// keep makes a message the retained one of its topic, unless one that came
// later is, and writes what the topic has now: whoever was stored last, and
// whichever way, the state ends with the message that was published last.
// done, which may be nil, hears when that is durable.
func (c *Connector) keep(m *message, done func(error)) {
	c.retained.mu.Lock()
	defer c.retained.mu.Unlock()
	now := c.retained.set(m)
	c.produceState(retainedRecord(now), done)
}

// produceState writes to the state topic without ever waiting; done, which
// may be nil, hears what became of it.
func (c *Connector) produceState(r *kgo.Record, done func(error)) {
	r.Topic = StateTopic
	c.states.TryProduce(c.ctx, r, func(_ *kgo.Record, err error) {
		if err != nil && done == nil && !errors.Is(err, context.Canceled) {
			c.log.Warn("state is not written", "key", strings.ToValidUTF8(string(r.Key), "?"), "error", err)
		}
		if done != nil {
			done(err)
		}
	})
}

// stored counts what the broker said of a record.
func (c *Connector) stored(r *route, m *message, err error) {
	if err == nil {
		r.records.Add(1)
		r.bytes.Add(int64(len(m.payload)))
		c.metrics.messages.WithLabelValues(r.Topic, qosLabels[m.qos]).Inc()
		c.metrics.bytes.WithLabelValues(r.Topic).Add(float64(len(m.payload)))
	}
	if permanent(err) || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, errStopped) {
		return // the message's fault, or ours
	}
	if err != nil {
		err = fmt.Errorf("topic %s: %w", r.Topic, err)
	}
	c.trouble(err)
}

var qosLabels = [3]string{"0", "1", "2"}

// trouble notes that the broker takes nothing, or, nil, that it does again.
func (c *Connector) trouble(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.problem == nil {
		c.log.Warn("broker does not take records", "error", err)
	}
	c.problem = err
}

// refusal is a message that is not in Kafka.
type refusal struct {
	client, topic, reason string
	at                    time.Time
}

func (r refusal) String() string {
	return fmt.Sprintf("%s of client %s: %s, at %s", r.topic, r.client, r.reason, r.at.UTC().Format(time.RFC3339))
}

// refuse counts a message that is not in Kafka and tells of one a minute.
func (c *Connector) refuse(client, topic, reason string) {
	c.metrics.refused.WithLabelValues(reason).Inc()
	now := time.Now()
	c.mu.Lock()
	first := now.Sub(c.told) > time.Minute
	if first {
		c.told = now
	}
	c.refused = refusal{client: client, topic: topic, reason: reason, at: now}
	c.mu.Unlock()
	if first {
		c.log.Warn("mqtt message is not stored", "client", client, "topic", topic, "reason", reason)
	}
}

// takeRoom takes bytes of what may wait for all subscribers together.
func (c *Connector) takeRoom(n int) bool {
	if c.room.Add(int64(n)) > maxRoom {
		c.room.Add(-int64(n))
		return false
	}
	return true
}

func (c *Connector) giveRoom(n int) { c.room.Add(-int64(n)) }
