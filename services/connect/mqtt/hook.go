package mqtt

import (
	"bytes"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where the library asks us. It keeps connections, packets and the
// index of subscriptions; acknowledgements, delivery, retained messages,
// wills and sessions are ours, since its own are in memory and in no order.
type hook struct {
	mochi.HookBase
	c *Connector
}

func (h *hook) ID() string { return "kafka" }

func (h *hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablish, mochi.OnSessionEstablished,
		mochi.OnDisconnect, mochi.OnPacketRead, mochi.OnPacketEncode, mochi.OnPublish,
		mochi.OnSubscribe, mochi.OnSubscribed, mochi.OnUnsubscribed, mochi.OnPacketProcessed,
	}, b) >= 0
}

// OnConnectAuthenticate says who a client is, or that it may not come in.
func (h *hook) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	p, ok := cl.Net.Conn.(*peer)
	if !ok {
		return false
	}
	p.raw.said.Store(true)
	user, ok := h.c.login(p, pk)
	p.raw.giveTurn()
	if !ok {
		h.c.metrics.denied.Inc()
		time.Sleep(loginPause)
		return false
	}
	if !h.c.admit(cl, user) {
		return false
	}
	p.at.known(p)
	return true
}

// OnACLCheck judges what may be subscribed to; messages are judged when they
// are published (OnPublish), and delivered to who has subscribed.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	if write {
		return true
	}
	d := h.c.connection(cl)
	return d != nil && h.c.access.maySubscribe(cl.ID, d.user, topic) && h.c.roomForSubscription(cl, topic)
}

func (h *hook) OnSessionEstablish(cl *mochi.Client, pk packets.Packet) { h.c.begin(cl, pk) }

func (h *hook) OnSessionEstablished(cl *mochi.Client, pk packets.Packet) { h.c.established(cl, pk) }

func (h *hook) OnDisconnect(cl *mochi.Client, err error, _ bool) {
	// The library says nil too when we have ended it while its reader was busy.
	if cause := cl.StopCause(); err == nil && cause != error(packets.CodeDisconnect) {
		err = cause
	}
	if d := h.c.connection(cl); d != nil {
		d.endOnce.Do(func() { h.c.end(d, err) })
	}
}

// OnPacketEncode tells MQTT 5 clients what we can do and whether there was a
// session.
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack || refused(packets.Code{Code: pk.ReasonCode}) {
		return pk
	}
	d := h.c.connection(cl)
	if d == nil {
		return pk
	}
	pk.SessionPresent = pk.SessionPresent && d.resumed
	if d.v5 {
		pk.Properties.MaximumPacketSize = maxPacket
		pk.Properties.TopicAliasMaximum = maxAliases
		if d.shortened {
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = uint32(sessionExpiry/time.Second), true
		}
	}
	return pk
}

// nothing is a packet that the library does nothing for.
func nothing(pk packets.Packet) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: pk.ProtocolVersion}
}

// OnPacketRead keeps from the library what we answer ourselves.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	d := h.c.connection(cl)
	if d == nil {
		return pk, nil // CONNECT
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if strings.HasPrefix(pk.TopicName, "$") {
			// The broker's own (4.7.2): the library would ignore it without a
			// word.
			h.c.refuse(cl.ID, pk.TopicName, noRoute)
			return pk, packets.ErrRejectPacket // the only error that ends the reading
		}
	case packets.Subscribe:
		if len(pk.Filters) > maxSubscriptions {
			return pk, packets.ErrRejectPacket
		}
	case packets.Pubrel:
		h.c.release(d, pk)
		return nothing(pk), nil
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		d.s.acknowledged(d, pk)
		return nothing(pk), nil
	case packets.Disconnect:
		if p := pk.Properties; p.SessionExpiryIntervalFlag && d.s.persistent() {
			d.s.mu.Lock()
			d.s.expiry = p.SessionExpiryInterval
			d.s.mu.Unlock()
			pk.Properties.SessionExpiryIntervalFlag = p.SessionExpiryInterval == 0
		}
	}
	return pk, nil
}

// OnPublish sends a message to Kafka. With ErrRejectPacket the library does
// nothing more with it: answer and delivery are ours.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if d := h.c.connection(cl); d != nil {
		h.c.publish(d, pk)
	}
	return pk, packets.ErrRejectPacket
}

// OnSubscribe remembers what is new, since retained messages may depend on it
// (3.8.3.1), and grants shared subscriptions no more than QoS 1: exactly once
// among several takers is more than is kept on disk.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	d := h.c.connection(cl)
	if d == nil {
		return pk
	}
	d.subbed = d.subbed[:0]
	for i, sub := range pk.Filters {
		_, existed := cl.State.Subscriptions.Get(sub.Filter)
		if strings.HasPrefix(sub.Filter, shared) {
			pk.Filters[i].Qos = min(sub.Qos, 1)
			continue
		}
		if sub.RetainHandling == 0 || sub.RetainHandling == 1 && !existed {
			d.subbed = append(d.subbed, subscribed{i, pk.Filters[i]})
		}
	}
	return pk
}

// subscribed is a filter of a SUBSCRIBE whose retained messages are wanted.
type subscribed struct {
	index int
	sub   packets.Subscription
}

// OnSubscribed runs before SUBACK is sent: from then on nothing that is
// stored passes the session by, and a session that is kept knows of the
// subscription after a power cut.
func (h *hook) OnSubscribed(cl *mochi.Client, _ packets.Packet, codes []byte) {
	d := h.c.connection(cl)
	if d == nil {
		return
	}
	granted := d.subbed[:0]
	for _, w := range d.subbed {
		if w.index < len(codes) && codes[w.index] <= 2 {
			granted = append(granted, w)
		}
	}
	d.subbed = granted
	if err := h.c.listen(d); err != nil {
		h.c.log.Debug("subscription is not safe, the client is to ask again", "client", cl.ID, "error", err)
		h.c.disconnect(cl, packets.ErrServerBusy)
	}
}

func (h *hook) OnUnsubscribed(cl *mochi.Client, _ packets.Packet) {
	if d := h.c.connection(cl); d != nil && d.s.persistent() && !cl.Closed() {
		d.s.save(nil)
	}
}

// OnPacketProcessed sends retained messages after SUBACK.
func (h *hook) OnPacketProcessed(cl *mochi.Client, pk packets.Packet, err error) {
	if pk.FixedHeader.Type != packets.Subscribe || err != nil {
		return
	}
	d := h.c.connection(cl)
	if d == nil {
		return
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	waits := map[*message]bool{} // once is enough: or a SUBSCRIBE that is repeated fills the memory
	for _, q := range d.s.out.retained {
		waits[q.m] = true
	}
	for _, w := range d.subbed {
		for _, m := range h.c.retained.match(w.sub.Filter) {
			if waits[m] {
				continue
			}
			waits[m] = true
			q, ok := d.s.queuedFor(m, w.sub, "")
			if w.sub.Identifier > 0 {
				q.ids = []int{w.sub.Identifier}
			}
			if q.kept = true; ok {
				d.s.out.retained = append(d.s.out.retained, q)
			}
		}
	}
	d.subbed = d.subbed[:0]
	d.startSender()
	d.nudge()
}
