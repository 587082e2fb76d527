// Package s7 reads and writes the memory of Siemens S7 PLCs over ISO on TCP
// (RFC 1006).
package s7

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/robinson/gos7"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// refusedRetry is when a point is asked for again that the PLC refuses.
const refusedRetry = time.Minute

// Connector is one connection of the profile.
type Connector struct {
	cfg     site.S7
	points  []*point
	timeout time.Duration

	lost bool // all points were told to be bad and none was good since
}

// New takes a connection of a checked profile.
func New(cfg site.S7) (connect.Connector, error) {
	c := &Connector{cfg: cfg}
	timeout, err := time.ParseDuration(cfg.Timeout)
	errs := []error{err}
	c.timeout = timeout
	for _, p := range cfg.Points {
		a, err := site.ParseS7Address(p.Address)
		every, err2 := time.ParseDuration(p.Every)
		value, err3 := newCodec(a, p.Scale, p.Offset)
		errs = append(errs, err, err2, err3)
		c.points = append(c.points, &point{
			codec: value, name: p.Name, measure: p.Unit, every: every, writable: p.Writable, readBack: *p.ReadBack,
			report: connect.NewException(p.Report),
		})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("s7 connection %s: %v", cfg.Name, err)
	}
	return c, nil
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	s := &session{Connector: c, box: box}
	var err error
	if s.link, err = dial(ctx, &c.cfg, c.timeout); err != nil {
		return s.away(ctx, err)
	}
	defer s.link.close()
	s.pieces = plan(c.points, s.link.pdu())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := slices.MinFunc(s.pieces, func(a, b *piece) int { return a.due.Compare(b.due) })
		timer.Reset(time.Until(next.due))
		select {
		case <-ctx.Done():
			return nil
		case cmd := <-box.Commands():
			cmd.Result(s.write(cmd))
		case <-timer.C:
			if err := s.poll(s.due(time.Now())); err != nil {
				return s.away(ctx, err)
			}
		}
	}
}

// link is one connection to a PLC, with one job under way at a time.
type link struct {
	handler *gos7.TCPClientHandler
	ref     uint16
}

// dial connects, and agrees on the length of a job. The library cannot be
// interrupted while it waits for an answer: that ends after the time-out.
func dial(ctx context.Context, cfg *site.S7, timeout time.Duration) (*link, error) {
	h := gos7.NewTCPClientHandlerWithConnectType(cfg.Address, cfg.Rack, *cfg.Slot, site.S7Connections[cfg.As])
	h.Timeout, h.IdleTimeout = timeout, 0
	if err := h.ConnectContext(ctx); err != nil {
		h.Close()
		return nil, fmt.Errorf("%v (rack %d, slot %d)", err, cfg.Rack, *cfg.Slot)
	}
	if h.PDULength < 112 { // no PLC offers less than 240
		h.Close()
		return nil, fmt.Errorf("the PLC offers jobs of %d bytes", h.PDULength)
	}
	return &link{handler: h}, nil
}

func (l *link) close()   { l.handler.Close() }
func (l *link) pdu() int { return l.handler.PDULength }

// read returns a result for every item.
func (l *link) read(items []item) ([]result, error) {
	l.ref++
	answer, err := l.handler.Send(readJob(l.ref, items))
	if err != nil {
		return nil, err
	}
	return readAnswer(answer, l.ref, items)
}

func (l *link) write(i item, data []byte) error {
	b := writeJob(l.ref+1, i, data)
	if len(b)-isoSize > l.pdu() {
		return fmt.Errorf("%d bytes are more than a job of this PLC can have", len(data))
	}
	l.ref++
	answer, err := l.handler.Send(b)
	if err != nil {
		return fmt.Errorf("no answer, the value may have been written: %v", err)
	}
	return writeAnswer(answer, l.ref)
}

// session is one Run.
type session struct {
	*Connector
	box    *connect.Box
	link   *link
	pieces []*piece
	up     bool
}

// due are the pieces of the next job.
func (s *session) due(now time.Time) []*piece {
	var all []*piece
	for _, c := range s.pieces {
		if !c.due.After(now) {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b *piece) int { return a.due.Compare(b.due) })
	return pack(all, s.link.pdu())
}

// poll does one job and tells what it brought. An error is a PLC that is lost.
func (s *session) poll(pieces []*piece) error {
	items := make([]item, len(pieces))
	for i, c := range pieces {
		items[i] = c.item
	}
	results, err := s.link.read(items)
	now := time.Now()
	for _, c := range pieces {
		c.due = connect.NextDue(c.due, now, c.every)
	}
	var refused jobError
	if errors.As(err, &refused) {
		for _, c := range pieces {
			c.fault = err
			s.box.Tell(connect.BadReadings(c.points, now, err.Error())...)
		}
		s.status()
		return nil
	}
	if err != nil {
		return err
	}
	for i, c := range pieces {
		s.result(c, results[i], now)
	}
	s.status()
	return nil
}

func (s *session) result(c *piece, r result, now time.Time) {
	c.fault = itemError(r.code)
	if c.fault == nil {
		s.box.Tell(s.readings(c, r.data, now)...)
		return
	}
	if halves := c.split(mostOf(s.link.pdu())); halves != nil {
		at := slices.Index(s.pieces, c)
		s.pieces = slices.Replace(s.pieces, at, at+1, halves...)
		for _, half := range halves {
			half.due = now
		}
		return
	}
	c.due = now.Add(max(c.every, refusedRetry))
	s.box.Tell(connect.BadReadings(c.points, now, c.fault.Error())...)
}

// readings decodes a piece. What is no value of its type is a bad reading
// and, with its bytes, a dead letter.
func (s *session) readings(c *piece, data []byte, now time.Time) []connect.Reading {
	rs := make([]connect.Reading, 0, len(c.points))
	s.lost = false
	for _, p := range c.points {
		raw := c.cut(p, data)
		v, err := p.decode(raw)
		if err != nil {
			s.box.Dead(fmt.Sprintf("%s is no %s: %v", p.name, p.Type, err), raw, p.S7Address.String())
			rs = append(rs, connect.BadReadings([]*point{p}, now, err.Error())...)
			continue
		}
		r := p.Reading(now)
		r.Value = v
		rs = append(rs, r)
	}
	return rs
}

// Reading implements connect.Point.
func (p *point) Reading(now time.Time) connect.Reading {
	return connect.Reading{Point: p.name, Address: p.S7Address.String(), Unit: p.measure, BoxTime: now, Exception: p.report}
}

// status tells the first fault there is, if any.
func (s *session) status() {
	at := slices.IndexFunc(s.pieces, func(c *piece) bool { return c.fault != nil })
	if !s.up || at < 0 {
		s.up = true // once in any case: the PLC answers
		s.box.Up(fmt.Sprintf("%d points in %d items, %d bytes a job", len(s.points), len(s.pieces), s.link.pdu()))
	}
	if at >= 0 {
		s.box.Trouble(fmt.Errorf("%s: %v", s.pieces[at].points[0].name, s.pieces[at].fault))
	}
}

// away ends a session: every point is told to be bad, once.
func (s *session) away(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if !s.lost {
		s.box.Tell(connect.BadReadings(s.points, time.Now(), err.Error())...)
		s.lost = true
	}
	return fmt.Errorf("talk to %s: %v", s.cfg.Address, err)
}
