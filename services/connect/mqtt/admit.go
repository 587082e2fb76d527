package mqtt

import (
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
