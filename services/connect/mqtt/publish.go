package mqtt

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// release takes a PUBREL.
func (c *Connector) release(d *connection, pk packets.Packet) {
	it := &item{s: d.s, pk: pk, release: true, at: time.Now(), done: make(chan struct{})}
	d.s.mu.Lock()
	known, persistent := d.s.received[pk.PacketID] != nil, d.s.expiry > 0
	d.s.mu.Unlock()
	if !known {
		it.code = packets.ErrPacketIdentifierNotFound
	}
	d.queue <- it
	if !known || !persistent {
		it.finish(nil)
	} else if !c.once.give(d.ctx, it) {
		it.finish(errStopped)
	}
}

func (c *Connector) publish(d *connection, pk packets.Packet) {
	if pk.TopicName == "" { // an alias that was never given (3.3.2.3.4)
		c.disconnect(d.cl, packets.ErrTopicAliasInvalid)
		return
	}
	r, reason := c.find(pk.TopicName), noRoute
	code := packets.ErrTopicNameInvalid
	if !c.access.mayPublish(d.cl.ID, d.user, pk.TopicName) {
		r, reason, code = nil, forbidden, packets.ErrNotAuthorized
	}
	now := time.Now()
	m := published(d.cl.ID, d.user, pk, now)
	if r == nil {
		c.refuse(d.cl.ID, pk.TopicName, reason)
	}
	if m.qos == 0 {
		if r != nil && c.fireAndForget(r, m) {
			c.feed.now(m)
		}
		return
	}
	it := &item{s: d.s, m: m, r: r, pk: pk, at: now, done: make(chan struct{})}
	if r == nil {
		it.code = code
		close(it.done)
		d.queue <- it
		return
	}
	if m.retain && !c.retained.fits(m) {
		m.retain = false
	}
	if m.qos == 2 {
		c.publishOnce(d, it)
		return
	}
	c.retained.comes(m)
	d.queue <- it // blocks this device while its window is full
	c.produce(d, it)
}

// publishOnce stores a QoS 2 message, unless it is one that is or is being
// stored.
func (c *Connector) publishOnce(d *connection, it *item) {
	first, again := d.s.receive(it)
	switch {
	case again:
		d.queue <- &item{s: d.s, pk: it.pk, at: it.at, of: first, done: first.done}
		return
	case d.s.unreleased() > maxUnreleased:
		c.disconnect(d.cl, packets.ErrReceiveMaximum)
		it.finish(errStopped)
		return
	}
	c.retained.comes(it.m)
	d.queue <- it
	if !d.s.persistent() {
		c.produce(d, it)
	} else if !c.once.give(d.ctx, it) {
		it.finish(errStopped)
	}
}
