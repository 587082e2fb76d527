package mqtt

import (
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// session is what MQTT keeps of a client beyond its connection (MQTT 5.0,
// 4.1). Its messages are not in it: they are read from Kafka, from the
// positions it holds.
type session struct {
	c  *Connector
	id string

	mu     sync.Mutex
	user   string
	v5     bool
	expiry uint32      // seconds it outlives its connection; 0: it ends with it
	conn   *connection // nil while the client is away
	away   time.Time   // since when
	will   *time.Timer // sends a delayed will
	willed *storedWill // that the timer sends

	// Incoming: QoS 2 messages by packet identifier, from PUBLISH to PUBREL.
	received map[uint16]*item

	out outbox

	saving sync.Mutex // the order of writes of the state is that of the changes
	saved  bool       // the state topic knows the session
}

func newSession(c *Connector, id string) *session {
	return &session{
		c: c, id: id, received: map[uint16]*item{},
		out: outbox{sent: map[uint16]*outgoing{}, next: map[part]int64{}, once: map[part]int64{}},
	}
}

// forever is an expiry interval that means it (MQTT 5.0, 3.1.2.11.2).
const forever = 1<<32 - 1

// lasts is how long the session is kept without a connection.
func (s *session) lasts() time.Duration {
	d := time.Duration(s.expiry) * time.Second
	if s.expiry == forever || d > sessionExpiry {
		return sessionExpiry
	}
	return d
}

// persistent reports whether the session outlives its connection. It is set
// when a connection begins, and by DISCONNECT.
func (s *session) persistent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry > 0
}

// stored is what the state topic keeps of a session.
func (s *session) stored() storedSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := storedSession{Version: stateVersion, User: s.user, V5: s.v5, Expiry: s.expiry, Will: s.willed}
	if s.conn != nil && s.conn.will != nil {
		out.Will = storeWill(s.conn.will, s.conn.willDelay)
	}
	for _, sub := range s.c.subscriptions(s.id) {
		out.Subs = append(out.Subs, storedSub{
			Filter: sub.Filter, QoS: sub.Qos, NoLocal: sub.NoLocal,
			AsPublished: sub.RetainAsPublished, Handling: sub.RetainHandling, Identifier: sub.Identifier,
		})
	}
	return out
}

// save writes the session to the state topic; done, which may be nil, hears
// when that is durable.
func (s *session) save(done func(error)) {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.saved = true
	s.c.produceState(stateRecord(keySession+s.id, s.stored()), done)
}

// known reports whether the state topic has the session.
func (s *session) known() bool {
	s.saving.Lock()
	defer s.saving.Unlock()
	return s.saved
}

// savePosition writes how far the session has come.
func (s *session) savePosition(done func(error)) {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	s.out.changed = false
	r := stateRecord(keyPosition+s.id, s.out.stored(s.c.feed))
	s.mu.Unlock()
	s.c.produceState(r, done)
}

// forget removes the session from the state topic.
func (s *session) forget() {
	s.saving.Lock()
	defer s.saving.Unlock()
	if !s.saved {
		return
	}
	s.saved = false
	s.mu.Lock()
	rs := []*kgo.Record{stateRecord(keySession+s.id, nil), stateRecord(keyPosition+s.id, nil)}
	for id := range s.received {
		rs = append(rs, stateRecord(receivedKey(s.id, id), nil))
	}
	s.mu.Unlock()
	for _, r := range rs {
		s.c.produceState(r, nil)
	}
}

// unreleased counts incoming QoS 2 messages that PUBREL has not ended.
func (s *session) unreleased() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.received)
}

// receive registers an incoming QoS 2 message. If its identifier is in use,
// it is the same message again, and the item of the first is returned.
func (s *session) receive(it *item) (first *item, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.received[it.pk.PacketID]; first != nil {
		return first, true
	}
	s.received[it.pk.PacketID] = it
	return it, false
}

// finished is called when Kafka has answered for an item.
func (c *Connector) finished(it *item) {
	s := it.s
	if it.pk.FixedHeader.Qos == 2 || it.release {
		s.mu.Lock()
		if it.release == (it.err == nil) { // released, or not stored after all
			if it.release || s.received[it.pk.PacketID] == it {
				delete(s.received, it.pk.PacketID)
			}
		}
		s.mu.Unlock()
	}
	if !it.release && it.r != nil {
		c.stored(it.r, it.m, it.err)
		if it.err == nil && it.m.retain && it.pk.FixedHeader.Qos == 2 {
			c.keep(it.m, nil) // its transaction may have overtaken others, or they it
		}
		c.retained.gone(it.m)
	}
}

// restored is an item that an earlier run of the service has stored.
func restored(s *session, id uint16) *item {
	it := &item{s: s, pk: packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, PacketID: id}, done: make(chan struct{})}
	close(it.done)
	return it
}
