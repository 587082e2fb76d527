package mqtt

import (
	"context"
	"errors"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// makeRoom ends the session that was away longest when there are too many.
func (c *Connector) makeRoom() {
	c.mu.Lock()
	var oldest *session
	if len(c.sessions) > maxSessions {
		for _, s := range c.sessions {
			s.mu.Lock()
			if s.conn == nil && !s.away.IsZero() && (oldest == nil || s.away.Before(oldest.away)) {
				oldest = s
			}
			s.mu.Unlock()
		}
	}
	c.mu.Unlock()
	if oldest != nil {
		c.log.Warn("too many sessions, the one away longest is ended", "client", oldest.id, "most", maxSessions)
		c.discard(oldest)
	}
}

// expire ends sessions that were away too long, by the time that the service
// has been running: a wall clock that jumps ends none.
func (c *Connector) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var over []*session
		c.mu.Lock()
		for _, s := range c.sessions {
			s.mu.Lock()
			if s.conn == nil && s.expiry > 0 && !s.away.IsZero() && time.Since(s.away) > s.lasts() {
				over = append(over, s)
			}
			s.mu.Unlock()
		}
		c.mu.Unlock()
		for _, s := range over {
			c.discard(s)
		}
	}
}

// restore makes the sessions, retained messages and identifiers that an
// earlier run has left.
func (c *Connector) restore(l *loaded) {
	now := time.Now()
	c.from = l.feed
	for id, kept := range l.sessions {
		s := newSession(c, id)
		s.user, s.v5, s.expiry, s.away = kept.User, kept.V5, kept.Expiry, now
		if p, ok := l.positions[id]; ok {
			s.out.restore(p)
			s.out.placed = len(kept.Subs) > 0
		}
		for n := range l.received[id] {
			s.received[n] = restored(s, n)
		}
		s.saved = true
		c.sessions[id] = s
		c.restoreIndex(s, kept)
		if w := kept.Will; w != nil {
			s.willed = w
			s.will = time.AfterFunc(max(time.Duration(w.Delay)*time.Second, willGrace), s.sendWilled)
		}
	}
	for _, m := range l.retained {
		if c.retained.fits(m) {
			c.retained.mu.Lock()
			c.retained.set(m)
			c.retained.mu.Unlock()
		}
	}
	if l.bad > 0 {
		c.log.Warn("records of the state topic are passed over: nobody can read them", "topic", StateTopic, "records", l.bad)
	}
	c.log.Info("state is read", "sessions", len(l.sessions), "retained", len(l.retained))
}

// restoreIndex tells the library of a session and its subscriptions.
func (c *Connector) restoreIndex(s *session, kept storedSession) {
	cl := c.server.NewClient(nil, "", s.id, false)
	cl.Properties.ProtocolVersion = 4
	if kept.V5 {
		cl.Properties.ProtocolVersion = 5
	}
	cl.Properties.Props.SessionExpiryInterval = forever
	cl.Properties.Props.SessionExpiryIntervalFlag = true
	cl.Stop(errStopped)
	c.server.Clients.Add(cl)
	for _, k := range kept.Subs {
		sub := packets.Subscription{
			Filter: k.Filter, Qos: min(k.QoS, 2), NoLocal: k.NoLocal,
			RetainAsPublished: k.AsPublished, RetainHandling: k.Handling, Identifier: k.Identifier,
		}
		if mochi.IsValidFilter(k.Filter, false) && strings.Count(k.Filter, "/") < maxLevels && c.access.maySubscribe(s.id, kept.User, k.Filter) && c.roomInIndex(k.Filter) {
			c.server.Topics.Subscribe(s.id, sub)
			cl.State.Subscriptions.Add(k.Filter, sub)
		}
	}
}

// subscriptions are those of a client, by filter.
func (c *Connector) subscriptions(id string) map[string]packets.Subscription {
	if cl, ok := c.server.Clients.Get(id); ok {
		return cl.State.Subscriptions.GetAll()
	}
	return nil
}

// roomForSubscription bounds what a client subscribes to, in number and in
// bytes: a session must fit a record.
func (c *Connector) roomForSubscription(cl *mochi.Client, filter string) bool {
	all := cl.State.Subscriptions.GetAll()
	total := len(filter)
	for f := range all {
		total += len(f)
	}
	if _, has := all[filter]; has {
		return true
	}
	return strings.Count(filter, "/") < maxLevels && len(all) < maxSubscriptions && total < maxFilterBytes && !strings.ContainsRune(filter, 0) &&
		c.roomInIndex(filter)
}

func (c *Connector) session(id string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[id]
}

func (c *Connector) connection(cl *mochi.Client) *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connections[cl]
}

var errStopped = errors.New("the connector is stopped")
