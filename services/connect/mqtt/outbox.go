package mqtt

import (
	"maps"

	"github.com/mochi-mqtt/server/v2/packets"
)

// outbox is what a session is to be sent. Guarded by the session's mu.
//
// It follows the log: while it is live the feed offers each message as it is
// stored; when its queue is full, or its client away, it stops listening,
// remembers where (next) and reads the log itself later on (follow.go).
type outbox struct {
	live   bool
	placed bool // next means something: there was a subscription
	// next is the first offset not looked at. While live it is where it was
	// when that began, which may be ahead of a feed that begins further back.
	next     map[part]int64
	queue    []queued // in order
	bytes    int      // of the queue
	retained []queued // retained messages for new subscriptions; before the queue

	sent    map[uint16]*outgoing // by packet identifier, until their flow is complete
	waiting int                  // how many of these
	lastID  uint16
	once    map[part]int64 // below it every message for QoS 2 is in sent, or done with
	changed bool           // since the last savePosition
	records []uint16       // PUBREC has come, PUBREL has to go
	unknown []uint16       // PUBREC of identifiers that nobody knows
}

// queued is a message with what the subscription makes of it.
type queued struct {
	m       *message
	qos     byte
	retain  bool
	ids     []int  // subscription identifiers
	share   string // of a shared subscription: its filter
	kept    bool   // a retained message for a new subscription
	outward *outgoing
}

// outgoing is a QoS 1 or 2 message that was sent.
type outgoing struct {
	id       uint16
	qos      byte
	at       place
	retained string // topic of a retained message, which has no place
	share    string
	m        *message // of a shared subscription, to give to another
	released bool
}

// nextID finds a packet identifier that is not in use, 0 if there is none.
func (o *outbox) nextID() uint16 {
	for range 65535 {
		if o.lastID++; o.lastID == 0 {
			o.lastID = 1
		}
		if o.sent[o.lastID] == nil {
			return o.lastID
		}
	}
	return 0
}

// find returns what was sent of a place.
func (o *outbox) find(at place) *outgoing {
	for _, g := range o.sent {
		if g.at == at && at.topic != "" {
			return g
		}
	}
	return nil
}

// positions are where to look at the log again: what was not acknowledged
// comes first.
func (o *outbox) positions(f *feed) map[part]int64 {
	out := maps.Clone(o.next)
	if o.live {
		for p, n := range f.positions() {
			out[p] = max(out[p], n)
		}
	}
	back := func(at place) {
		if n, ok := out[at.part]; at.topic != "" && (!ok || at.offset < n) {
			out[at.part] = at.offset
		}
	}
	for _, q := range o.queue {
		if q.share == "" {
			back(q.m.at)
		}
	}
	for _, g := range o.sent {
		if !g.released {
			back(g.at)
		}
	}
	return out
}

func (o *outbox) stored(f *feed) storedPosition {
	p := storedPosition{Version: stateVersion, Next: keysOf(o.positions(f)), Once: keysOf(o.once)}
	for _, g := range o.sent {
		p.Sent = append(p.Sent, storedSent{
			ID: g.id, QoS: g.qos, Topic: g.at.topic, Partition: g.at.n, Offset: g.at.offset,
			Retained: g.retained, Released: g.released,
		})
	}
	return p
}

// restore is the opposite of stored.
func (o *outbox) restore(p storedPosition) {
	o.next, o.once, o.placed = partsOf(p.Next), partsOf(p.Once), true
	for _, g := range p.Sent {
		if g.ID == 0 || g.QoS < 1 || g.QoS > 2 || len(o.sent) >= 2*maxInflight {
			continue
		}
		o.sent[g.ID] = &outgoing{
			id: g.ID, qos: g.QoS, at: place{part{g.Topic, g.Partition}, g.Offset},
			retained: g.Retained, released: g.Released,
		}
	}
}

// offer gives a message of the log to a session, as the feed comes by it.
func (s *session) offer(m *message, sub packets.Subscription, share string) (taken bool) {
	q, ok := s.queuedFor(m, sub, share)
	if !ok {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || !s.out.live && share == "" { // who follows the log does not see shared ones
		return false
	}
	if m.at.offset < s.out.next[m.at.part] {
		return true
	}
	if full := len(s.out.queue) >= maxPending || !s.c.takeRoom(m.size()); full {
		switch {
		case share != "":
		case q.qos == 0:
			s.c.metrics.dropped.Inc()
		default:
			s.fallBehind()
		}
		return false
	}
	s.push(q)
	return true
}

// offerNow gives a QoS 0 message, which no log serves again, to a session.
func (s *session) offerNow(m *message, sub packets.Subscription, share string) (taken bool) {
	q, ok := s.queuedFor(m, sub, share)
	if !ok {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return false
	}
	if len(s.out.queue) >= maxPending || !s.c.takeRoom(m.size()) {
		s.c.metrics.dropped.Inc()
		return false
	}
	s.push(q)
	return true
}

// queuedFor is what a subscription makes of a message; ok is false when it
// wants none of it.
func (s *session) queuedFor(m *message, sub packets.Subscription, share string) (q queued, ok bool) {
	if sub.NoLocal && m.origin == s.id { // 3.8.3-3
		return q, false
	}
	q = queued{m: m, qos: min(m.qos, sub.Qos), retain: m.retain && sub.RetainAsPublished, share: share}
	for _, id := range sub.Identifiers {
		if id > 0 {
			q.ids = append(q.ids, id)
		}
	}
	return q, true
}

// push appends to the queue, whose room was taken. Called with mu held.
func (s *session) push(q queued) {
	q.m.own()
	s.out.queue = append(s.out.queue, q)
	s.out.bytes += q.m.size()
	s.out.changed = true
	s.conn.nudge()
}

// fallBehind stops listening to the feed. Called by the feed with mu held.
func (s *session) fallBehind() {
	s.out.live = false
	for p, n := range s.c.feed.positions() {
		s.out.next[p] = max(s.out.next[p], n)
	}
}

// attach begins a connection.
func (s *session) attach(conn *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	s.out.waiting = 0
	for _, g := range s.out.sent {
		if g.released { // 4.4.0-1: sent again
			s.out.records = append(s.out.records, g.id)
		}
		s.out.waiting++
		if m := s.c.retained.get(g.retained); m != nil && g.retained != "" {
			s.out.retained = append(s.out.retained, queued{m: m, qos: g.qos, retain: true, kept: true, outward: g})
		} else if g.retained != "" && !g.released {
			s.out.drop(g) // what it was is gone
		}
	}
	conn.nudge()
}

func (o *outbox) drop(g *outgoing) {
	if o.sent[g.id] == g {
		delete(o.sent, g.id)
		o.waiting--
		o.changed = true
	}
}

// detach ends a connection and returns the shared messages that others are to
// have.
func (s *session) detach(conn *connection) (shared []queued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != conn {
		return nil
	}
	o := &s.out
	next := o.positions(s.c.feed)
	for _, q := range o.queue {
		if q.share != "" && q.outward == nil {
			shared = append(shared, q)
		}
	}
	for _, g := range o.sent {
		if g.share != "" && g.m != nil && !g.released && (g.qos == 1 || s.expiry == 0) {
			shared = append(shared, queued{m: g.m, share: g.share})
			delete(o.sent, g.id)
		}
	}
	s.c.giveRoom(o.bytes)
	o.queue, o.bytes, o.retained, o.records, o.unknown = nil, 0, nil, nil, nil
	o.live, o.next, o.changed = false, next, true
	// While it is taken over the library has it without subscriptions for a moment.
	o.placed = o.placed && (conn.cl.IsTakenOver() || len(s.c.subscriptions(s.id)) > 0)
	s.conn = nil
	return shared
}
