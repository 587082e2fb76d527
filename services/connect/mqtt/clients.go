package mqtt

import (
	"context"
	"errors"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// login says who a client is: by its certificate, else by user name and
// password, else nobody, where the listener lets nobody in.
func (c *Connector) login(p *peer, pk packets.Packet) (user string, ok bool) {
	if p.user != "" {
		return p.user, true
	}
	if !pk.Connect.UsernameFlag {
		return "", p.at.anonymous
	}
	if c.users == nil {
		return "", p.at.anonymous // whoever says a name that nobody can check is nobody
	}
	name := string(pk.Connect.Username)
	return name, c.users.Get().check(name, pk.Connect.Password)
}

// admit says whether a client may have its identifier. A session is its
// user's, while its client is away too: what waits in it is nobody else's, to
// read or to end. One that belongs to nobody ends when somebody comes.
func (c *Connector) admit(cl *mochi.Client, user string) bool {
	c.mu.Lock()
	s := c.sessions[cl.ID]
	claimed, taken := c.claims[cl.ID]
	if taken && claimed.user != user {
		c.mu.Unlock()
		return c.notYours(cl.ID, user)
	}
	claimed.user = user
	claimed.n++
	c.claims[cl.ID] = claimed
	c.mu.Unlock()
	p := cl.Net.Conn.(*peer)
	p.claim = cl.ID
	if s != nil {
		used := c.inUse(s)
		s.mu.Lock()
		theirs, nobodys := s.user != user, s.user == "" && !used
		s.mu.Unlock()
		switch {
		case theirs && !nobodys:
			c.unclaim(p)
			return c.notYours(cl.ID, user)
		case theirs:
			c.discard(s)
		}
	}
	cl.Properties.Username = []byte(user)
	return true
}

func (c *Connector) notYours(client, user string) bool {
	c.metrics.denied.Inc()
	c.log.Warn("client identifier has a session of another user, who ends it, or its expiry does", "client", client, "user", user)
	return false
}

// claim is a client identifier of connections that were let in and have no
// session yet: two that come at once are not both to have it.
type claim struct {
	user string
	n    int
}

func (c *Connector) unclaim(p *peer) {
	if p.claim == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.claims[p.claim]
	if held.n--; held.n > 0 {
		c.claims[p.claim] = held
	} else {
		delete(c.claims, p.claim)
	}
	p.claim = ""
}

// begin runs before CONNACK.
func (c *Connector) begin(cl *mochi.Client, pk packets.Packet) {
	d := newConnection(c, cl)
	c.mu.Lock()
	s := c.sessions[cl.ID]
	c.mu.Unlock()
	if s != nil {
		s.mu.Lock()
		ends := s.expiry == 0
		s.mu.Unlock()
		if pk.Connect.Clean || ends {
			c.replace(s)
			s = nil
		}
	}
	if d.resumed = s != nil; s == nil {
		s = newSession(c, cl.ID)
	}
	expiry := cl.Properties.Props.SessionExpiryInterval
	if !d.v5 {
		if expiry = forever; pk.Connect.Clean {
			expiry = 0
		}
	} else if d.shortened = expiry > uint32(sessionExpiry/time.Second); d.shortened {
		expiry = uint32(sessionExpiry / time.Second)
	}
	d.s, d.user = s, string(cl.Properties.Username)
	s.mu.Lock()
	s.user, s.v5, s.expiry = d.user, d.v5, expiry
	s.away = time.Time{} // neither expire nor makeRoom may end it now
	s.mu.Unlock()
	// The library's own expiry goes by a wall clock that may not be set.
	if cl.Properties.Props.SessionExpiryInterval = 0; expiry > 0 {
		cl.Properties.Props.SessionExpiryInterval = forever
	}
	cl.Properties.Props.SessionExpiryIntervalFlag = true
	c.mu.Lock()
	c.sessions[cl.ID] = s
	c.connections[cl] = d
	c.mu.Unlock()
	p := cl.Net.Conn.(*peer)
	p.conn = d
	c.unclaim(p)
	c.makeRoom()
	if expiry > 0 && !s.known() {
		// Before the client hears that it has a session: packet identifiers
		// without one would be nobody's after a restart.
		saved := make(chan error, 1)
		s.save(func(err error) { saved <- err })
		select {
		case err := <-saved:
			if err != nil {
				c.disconnect(cl, packets.ErrServerBusy)
			}
		case <-c.ctx.Done():
			c.disconnect(cl, packets.ErrServerShuttingDown)
		}
	}
}

// replace takes the place of a session that a new connection does not
// resume. Its connection, if any, is ended by the library.
func (c *Connector) replace(s *session) {
	s.mu.Lock()
	conn := s.conn
	s.expiry = 0
	s.mu.Unlock()
	if cl, ok := c.server.Clients.Get(s.id); ok { // or the new session is saved with them
		c.server.UnsubscribeClient(cl)
	}
	s.sendWilled()
	s.forget()
	if conn != nil {
		c.detach(conn)
	}
}

// established runs after CONNACK.
func (c *Connector) established(cl *mochi.Client, pk packets.Packet) {
	d := c.connection(cl)
	if d == nil {
		return
	}
	d.takeWill(pk)
	if !d.resumed && cl.State.Subscriptions.Len() > 0 { // of a session that has ended
		c.server.UnsubscribeClient(cl)
	}
	d.s.mu.Lock()
	old := d.s.conn
	d.s.mu.Unlock()
	if old != nil { // taken over; its own end may come later
		c.detach(old)
	}
	d.s.attach(d)
	d.s.cancelWill()
	c.drains.Go(d.drain)
	if d.s.persistent() && (d.resumed || d.will != nil) {
		d.s.save(nil)
	}
	if !d.resumed {
		return
	}
	if cl.State.Subscriptions.Len() > 0 {
		if err := c.listen(d); err != nil {
			c.disconnect(cl, packets.ErrServerBusy)
			return
		}
	}
	d.startSender()
}

// startSender starts bringing messages, once somebody may want some.
func (d *connection) startSender() {
	if !d.sending {
		d.sending = true
		d.c.senders.Go(d.send)
	}
}

// listen has the feed run for a connection, and the session saved. It returns
// when both are so.
func (c *Connector) listen(d *connection) error {
	ctx, cancel := context.WithTimeout(d.out, c.cfg.AckTimeout)
	defer cancel()
	if err := d.useFeed(ctx); err != nil {
		return err
	}
	if !d.s.persistent() {
		return nil
	}
	saved := make(chan error, 2)
	d.s.save(func(err error) { saved <- err })
	d.s.savePosition(func(err error) { saved <- err })
	for range 2 {
		select {
		case err := <-saved:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return errNoAnswer
		}
	}
	return nil
}

// useFeed has the feed run as long as the connection lasts. A session that
// subscribes for the first time begins where the feed is.
func (d *connection) useFeed(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.detached {
		return errStopped
	}
	if !d.listening {
		if err := d.c.feed.use(ctx, d.c.from); err != nil {
			return err
		}
		d.listening = true
	}
	d.s.mu.Lock()
	if !d.s.out.placed {
		d.s.out.placed, d.s.out.next = true, d.c.feed.positions()
	}
	d.s.mu.Unlock()
	d.s.catchUp()
	return nil
}

// end runs when a connection has ended; err is nil after DISCONNECT.
func (c *Connector) end(d *connection, err error) {
	c.mu.Lock()
	delete(c.connections, d.cl)
	c.mu.Unlock()
	close(d.queue) // the reader, its only sender, has ended
	c.detach(d)
	s, will, next := d.s, d.will, c.inUse(d.s)
	if err == nil {
		will = nil
	}
	s.mu.Lock()
	s.away = time.Now()
	kept, taken := s.expiry > 0, s.conn != nil || next
	if will != nil && kept && !c.running.Load() { // for the next start to send
		s.willed, will = storeWill(will, d.willDelay), nil
	}
	s.mu.Unlock()
	if will != nil {
		s.leaveWill(will, d.willDelay)
	}
	switch {
	case taken:
	case kept:
		s.save(nil)
		s.savePosition(nil)
	default:
		c.drop(s)
		s.forget()
	}
}

// inUse reports whether a connection has the session, or is about to.
func (c *Connector) inUse(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.connections {
		if d.s == s {
			return true
		}
	}
	return false
}

// detach takes a connection from its session.
func (c *Connector) detach(d *connection) {
	d.mu.Lock()
	first, listening := !d.detached, d.listening
	d.detached = true
	d.mu.Unlock()
	if !first {
		return
	}
	d.outCancel()
	c.feed.again(d.s.detach(d))
	if listening {
		c.feed.release()
	}
}

// drop forgets a session that has ended with its connection.
func (c *Connector) drop(s *session) {
	s.sendWilled()
	c.mu.Lock()
	if c.sessions[s.id] == s {
		delete(c.sessions, s.id)
	}
	c.mu.Unlock()
}

// discard ends a session whose client is away.
func (c *Connector) discard(s *session) {
	c.drop(s)
	s.forget()
	if cl, ok := c.server.Clients.Get(s.id); ok {
		c.server.UnsubscribeClient(cl)
		c.server.Clients.Delete(s.id)
	}
}

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
		c.index(s, kept)
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

// index tells the library of a session and its subscriptions.
func (c *Connector) index(s *session, kept storedSession) {
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
		if mochi.IsValidFilter(k.Filter, false) && strings.Count(k.Filter, "/") < maxLevels && c.access.maySubscribe(s.id, kept.User, k.Filter) {
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
	return strings.Count(filter, "/") < maxLevels && len(all) < maxSubscriptions && total < maxFilterBytes && !strings.ContainsRune(filter, 0)
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
