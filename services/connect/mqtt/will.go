package mqtt

import (
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// takeWill takes the will of a CONNECT from the library, which would leave
// out its properties and forget a delayed one with the service.
func (d *connection) takeWill(pk packets.Packet) {
	w := pk.Connect
	d.cl.Properties.Will.Flag = 0
	if !w.WillFlag {
		return
	}
	d.will = published(d.cl.ID, d.user, packets.Packet{
		FixedHeader: packets.FixedHeader{Qos: w.WillQos, Retain: w.WillRetain},
		TopicName:   w.WillTopic, Payload: w.WillPayload, Properties: w.WillProperties,
	}, time.Now())
	d.will.expires = 0 // counts from when it is sent
	d.will.props.MessageExpiryInterval = w.WillProperties.MessageExpiryInterval
	d.willDelay = w.WillProperties.WillDelayInterval
	if !d.c.roomForWill(d.s, d.will) { // a client whose will is not kept is to know
		d.will = nil
		d.c.refuse(d.cl.ID, w.WillTopic, overflow)
		d.c.disconnect(d.cl, packets.ErrQuotaExceeded)
	}
}

func storeWill(m *message, delay uint32) *storedWill {
	p := m.props
	expiry := p.MessageExpiryInterval
	p.MessageExpiryInterval = 0
	return &storedWill{Topic: m.topic, Payload: m.payload, QoS: m.qos, Retain: m.retain, Delay: delay, Expiry: expiry, Props: p}
}

func (w *storedWill) message(client, user string) *message {
	m := &message{topic: w.Topic, payload: w.Payload, qos: min(w.QoS, 2), retain: w.Retain, origin: client, user: user, props: w.Props}
	m.props.MessageExpiryInterval = w.Expiry
	return m
}

// leaveWill has the will of an ended connection sent: at once, or when its
// delay or the session is over, unless the client comes back before.
func (s *session) leaveWill(m *message, delay uint32) {
	s.mu.Lock()
	wait := min(time.Duration(delay)*time.Second, s.lasts())
	if s.conn != nil || wait == 0 { // taken over, or no delay
		s.mu.Unlock()
		if wait == 0 {
			s.c.sendWill(m)
		}
		return
	}
	defer s.mu.Unlock()
	s.willed = storeWill(m, delay)
	s.will = time.AfterFunc(wait, s.sendWilled)
}

// sendWilled sends a will that was delayed, once.
func (s *session) sendWilled() {
	s.mu.Lock()
	w, persistent := s.willed, s.expiry > 0
	s.willed = nil
	user := s.user
	s.mu.Unlock()
	if w == nil {
		return
	}
	s.c.sendWill(w.message(s.id, user))
	if persistent {
		s.save(nil)
	}
}

// cancelWill is for a client that is back in time.
func (s *session) cancelWill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.will != nil {
		s.will.Stop()
		s.will, s.willed = nil, nil
	}
}

// sendWill publishes a will. Nobody is there to hear that it failed.
func (c *Connector) sendWill(m *message) {
	if n := m.props.MessageExpiryInterval; n > 0 {
		m.expires = time.Now().Unix() + int64(n)
		m.props.MessageExpiryInterval = 0
	}
	if !c.access.mayPublish(m.origin, m.user, m.topic) {
		c.refuse(m.origin, m.topic, forbidden)
		return
	}
	if c.fireAndForget(c.find(m.topic), m) && m.qos == 0 {
		c.feed.now(m)
	}
}
