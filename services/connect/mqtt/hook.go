package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hook is where the library asks us.
type hook struct {
	mochi.HookBase
	c *Connector
}

func (h *hook) ID() string { return "kafka" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablished, mochi.OnDisconnect,
		mochi.OnPacketRead, mochi.OnPublish, mochi.OnWillSent:
		return true
	}
	return false
}

// OnConnectAuthenticate lets everybody in; there are no users yet.
func (h *hook) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck allows everything; what may be published is the routes' word.
func (h *hook) OnACLCheck(*mochi.Client, string, bool) bool { return true }

func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) { h.c.open(cl) }

func (h *hook) OnDisconnect(cl *mochi.Client, _ error, _ bool) { h.c.close(cl) }

// OnPacketRead closes a connection that publishes below $, where only the
// broker does (4.7.2): the library would ignore the message without a word.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Publish && strings.HasPrefix(pk.TopicName, "$") {
		h.c.refuse(cl.ID, pk.TopicName, noRoute)
		return pk, packets.ErrRejectPacket // the only error that ends the reading
	}
	return pk, nil
}

// OnPublish sends a message to Kafka. With ErrRejectPacket the library does
// nothing more with it: its answer and its local delivery are the session's.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline { // local delivery of a message we had before
		return pk, nil
	}
	s := h.c.session(cl)
	if s == nil {
		return pk, packets.ErrRejectPacket
	}
	r := h.c.find(pk.TopicName)
	if pk.FixedHeader.Qos == 0 {
		if !h.c.fireAndForget(r, cl.ID, pk) {
			return pk, packets.ErrRejectPacket
		}
		pk.FixedHeader.Retain = pk.FixedHeader.Retain && h.c.mayRetain(pk)
		return pk, nil
	}
	it := &item{pk: pk, at: time.Now(), done: make(chan struct{})}
	if r == nil {
		h.c.refuse(cl.ID, pk.TopicName, noRoute)
		it.code = packets.ErrTopicNameInvalid
		close(it.done)
		s.queue <- it
		return pk, packets.ErrRejectPacket
	}
	s.queue <- it // blocks this device while its window is full
	// Blocks while all devices together wait for too much; the drain, which
	// has the item, ends that.
	h.c.kafka.Produce(s.ctx, r.record(cl.ID, pk), func(_ *kgo.Record, err error) {
		h.c.stored(r, pk, err)
		it.err = err
		close(it.done)
	})
	return pk, packets.ErrRejectPacket
}

// OnWillSent records the last will of a device that went without a word.
func (h *hook) OnWillSent(cl *mochi.Client, pk packets.Packet) {
	h.c.fireAndForget(h.c.find(pk.TopicName), cl.ID, pk)
}

// fireAndForget sends a message nobody waits for. It never blocks, and leaves
// room for those that somebody does wait for. It is false when there is no
// route.
func (c *Connector) fireAndForget(r *route, client string, pk packets.Packet) bool {
	if r == nil {
		c.refuse(client, pk.TopicName, noRoute)
		return false
	}
	if c.kafka.BufferedProduceBytes() > maxFireForget {
		c.refuse(client, pk.TopicName, overflow)
		return true
	}
	c.kafka.TryProduce(c.ctx, r.record(client, pk), func(_ *kgo.Record, err error) {
		c.stored(r, pk, err)
		if err != nil {
			c.refuse(client, pk.TopicName, failed)
		}
	})
	return true
}

// stored counts what the broker said of a record.
func (c *Connector) stored(r *route, pk packets.Packet, err error) {
	if err == nil {
		r.records.Add(1)
		r.bytes.Add(int64(len(pk.Payload)))
		c.metrics.messages.WithLabelValues(r.Topic, fmt.Sprint(pk.FixedHeader.Qos)).Inc()
		c.metrics.bytes.WithLabelValues(r.Topic).Add(float64(len(pk.Payload)))
	}
	if permanent(err) || errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return // the message's fault, or ours
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.problem == nil {
		c.log.Warn("broker does not take records", "topic", r.Topic, "error", err)
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

// retained counts the bytes of retained payloads by topic.
type retained struct {
	mu    sync.Mutex
	sizes map[string]int
	total int
}

// mayRetain reports whether a message can be kept as the retained one of its
// topic, and accounts for it.
func (c *Connector) mayRetain(pk packets.Packet) bool {
	r := &c.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	size := len(pk.Payload)
	if size > 0 {
		size += len(pk.TopicName) + 512 // what an entry costs besides
	}
	total := r.total - r.sizes[pk.TopicName] + size
	if total > maxRetained {
		c.metrics.unretained.Inc()
		return false
	}
	r.total = total
	if size == 0 { // an empty payload ends the retained message (3.3.1-6)
		delete(r.sizes, pk.TopicName)
	} else {
		r.sizes[pk.TopicName] = size
	}
	return true
}
