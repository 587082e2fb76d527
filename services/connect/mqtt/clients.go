package mqtt

import (
	"context"
	"time"
)

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
