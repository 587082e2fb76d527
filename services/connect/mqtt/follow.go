package mqtt

import (
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

// follow reads the log for a session that is behind, until its queue is full
// or it has caught up with the feed. It returns false when there is nothing
// to send now: the connection has ended, or the log does not answer and the
// sender is to come again.
func (d *connection) follow() bool {
	if d.s.catchUp() {
		return true
	}
	select {
	case d.c.followers <- struct{}{}:
		defer func() { <-d.c.followers }()
	case <-d.out.Done():
		return false
	}
	if err := d.read(); err != nil {
		if d.out.Err() == nil {
			d.c.log.Debug("read for a session that is behind", "client", d.cl.ID, "error", err)
		}
		time.AfterFunc(retryPause(1), d.nudge)
		return false
	}
	return true
}

// catchUp makes a session live when it has seen all that the feed has.
func (s *session) catchUp() bool {
	s.c.feed.mu.Lock()
	defer s.c.feed.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.out.live {
		return s.conn != nil
	}
	for p, n := range s.c.feed.positions() {
		if s.out.next[p] < n {
			return false
		}
	}
	s.out.live, s.out.changed = true, true
	return true
}

// read is one turn of following.
func (d *connection) read() error {
	cl, err := d.c.reader()
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := logEnds(d.out, cl, d.c.feed.topics...)
	if err != nil {
		return err
	}
	cl.AddConsumePartitions(d.s.begin(ends))
	for {
		if d.s.catchUp() {
			return nil
		}
		fetches, over, err := poll(d.out, cl)
		if err != nil {
			return err
		}
		filters := d.filters() // after the poll: whoever had SUBACK before a record was stored has it
		for it := fetches.RecordIter(); !it.Done(); {
			if !d.s.look(d, it.Next(), filters) {
				return nil
			}
		}
		for _, u := range over {
			if d.s.passOver(d, u) {
				d.c.passedOver(u)
			}
		}
	}
}

// begin says where to read. What retention has taken is passed over, and a
// partition that was made anew is read from its start.
func (s *session) begin(ends map[part]span) map[string]map[int32]kgo.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[string]map[int32]kgo.Offset{}
	for p, log := range ends {
		n := s.out.next[p]
		if n < log.start || n > log.end {
			if n > 0 {
				s.c.log.Warn("messages for a session are gone from the log", "client", s.id, "topic", p.topic, "partition", p.n, "from", n, "to", log.start)
			}
			n = log.start
		}
		if s.out.once[p] > log.end { // made anew
			delete(s.out.once, p)
		}
		s.out.next[p] = n
		addOffset(at, p, n)
	}
	for _, g := range s.out.sent { // gone for good
		if log, ok := ends[g.at.part]; g.at.topic != "" && (!ok || g.at.offset < log.start) && !g.released {
			s.out.drop(g)
		}
	}
	return at
}

// wanted is a subscription that is followed.
type wanted struct {
	levels []string
	sub    packets.Subscription
}

// filters are the session's subscriptions, but for shared ones, which are
// for those who are there.
func (d *connection) filters() (ws []wanted) {
	for _, sub := range d.c.subscriptions(d.s.id) {
		if !strings.HasPrefix(sub.Filter, shared) {
			ws = append(ws, wanted{strings.Split(sub.Filter, "/"), sub})
		}
	}
	return ws
}

// wantedOf merges the subscriptions that a topic matches, as the index of the
// library does.
func wantedOf(ws []wanted, topic string) (sub packets.Subscription, ok bool) {
	for _, w := range ws {
		if !match(w.levels, topic) {
			continue
		}
		if !ok {
			sub, ok = w.sub.Merge(w.sub), true
			continue
		}
		sub = sub.Merge(w.sub)
	}
	return sub, ok
}

// look takes one record for the session; false says that its queue is full,
// or that nobody is there.
func (s *session) look(d *connection, r *kgo.Record, filters []wanted) bool {
	at := place{part{r.Topic, r.Partition}, r.Offset}
	var m *message
	var pub *publication
	if !r.Attrs.IsControl() {
		m, pub = s.c.messageOf(r) // takes the connector's mu, which comes before s.mu
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.out
	if s.conn != d || len(o.queue) >= maxPending {
		return false
	}
	if r.Offset < o.next[at.part] {
		return true
	}
	if q, ok := s.due(m, pub, at, filters); ok {
		if n := q.m.size(); !s.c.takeRoom(n) {
			if len(o.queue) > 0 {
				return false
			}
			s.c.giveRoom(-n) // one may always wait
		}
		s.push(q)
	}
	o.next[at.part] = r.Offset + 1
	return true
}

// due is what the session is to be sent of a record. Called with mu held.
func (s *session) due(m *message, pub *publication, at place, filters []wanted) (q queued, ok bool) {
	if m == nil || (m.qos == 0 && pub == nil) {
		return q, false
	}
	m.at = at
	if g := s.out.find(at); g != nil { // was sent, and not acknowledged
		if g.released {
			return q, false
		}
		q, _ = s.queuedFor(m, packets.Subscription{Qos: g.qos}, "")
		q.qos, q.outward = g.qos, g
		return q, true
	}
	sub, ok := wantedOf(filters, m.topic)
	if !ok {
		return q, false
	}
	if q, ok = s.queuedFor(m, sub, ""); !ok || q.qos == 0 {
		return q, false
	}
	if q.qos == 2 && at.offset < s.out.once[at.part] { // was sent, and is done with
		return q, false
	}
	return q, true
}
