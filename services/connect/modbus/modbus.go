// Package modbus reads and writes the registers and bits of Modbus devices,
// over TCP, serial frames in TCP, or a serial port.
package modbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/decode"
	"github.com/waysideos/wayside/services/site"
)

const (
	// refusedRetry is when a point is asked for again that the device does
	// not have.
	refusedRetry = time.Minute
	// maxSilence is the longest time for which a unit that does not answer is
	// left alone, so that the others behind a gateway are read in time.
	maxSilence = time.Minute
)

// Connector is one connection of the profile.
type Connector struct {
	cfg            *site.Modbus
	points         []*point
	limits         limits
	timeout, pause time.Duration

	lost bool // all points were told to be bad and none was good since
}

// New takes a connection of a checked profile.
func New(cfg site.Modbus) (connect.Connector, error) {
	c := &Connector{cfg: &cfg, limits: limits{registers: cfg.MaxRegisters, bits: cfg.MaxBits, gap: *cfg.Gap}}
	var errs []error
	span := func(text string) time.Duration {
		d, err := time.ParseDuration(text)
		errs = append(errs, err)
		return d
	}
	c.timeout, c.pause = span(cfg.Timeout), span(cfg.Pause)
	for i := range cfg.Points {
		p := &cfg.Points[i]
		a, err := site.ParseModbusAddress(p.Address)
		out, err2 := newPoint(p, a, span(p.Every))
		errs = append(errs, err, err2)
		c.points = append(c.points, out)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("modbus connection %s: %v", cfg.Name, err)
	}
	return c, nil
}

func newPoint(p *site.ModbusPoint, a site.ModbusAddress, every time.Duration) (*point, error) {
	registers := site.ModbusTypes[p.Type]
	switch {
	case a.Table.Bits():
		registers = 0
	case p.Type == "string":
		registers = p.Length
	}
	c, err := newCodec(decode.Spec{Type: p.Type, Order: p.Order, Scale: p.Scale, Offset: p.Offset}, registers, a.Bit)
	return &point{
		codec: c, name: p.Name, measure: p.Unit, unit: byte(p.UnitID), address: a, every: every,
		writable: p.Writable, readBack: *p.ReadBack, report: connect.NewException(p.Report),
	}, err
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	s := &session{
		Connector: c, box: box, link: open(ctx, c.cfg, c.timeout, c.pause),
		spans: plan(c.points, c.limits), silent: map[byte]int{}, faults: map[string]error{},
	}
	defer s.link.close()
	if err := s.link.handler.Connect(ctx); err != nil {
		return s.away(ctx, err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := slices.MinFunc(s.spans, func(a, b *span) int { return a.due.Compare(b.due) })
		timer.Reset(time.Until(next.due))
		select {
		case <-ctx.Done():
			return nil
		case cmd := <-box.Commands():
			cmd.Result(s.write(ctx, cmd))
		case <-timer.C:
			if err := s.poll(ctx, next); err != nil {
				return s.away(ctx, err)
			}
		}
	}
}

// session is one Run.
type session struct {
	*Connector
	box    *connect.Box
	link   *link
	spans  []*span
	up     bool
	misses int              // requests without an answer since the last answer
	silent map[byte]int     // the same, by unit
	faults map[string]error // what is wrong now, by the first point of the request
}

// poll does one request and tells what it brought. An error is a device that
// is lost.
func (s *session) poll(ctx context.Context, sp *span) error {
	answer, err := s.link.read(ctx, sp)
	now := time.Now()
	sp.due = connect.NextDue(sp.due, now, sp.every)
	code := exception(err)
	if err != nil && code == 0 {
		return s.missed(ctx, sp, now, err)
	}
	s.misses, s.silent[sp.unit] = 0, 0
	switch {
	case err == nil:
		delete(s.faults, sp.key())
		s.box.Tell(s.readings(sp, answer, now)...)
	case splittable(code) && len(sp.points) > 1:
		at := slices.Index(s.spans, sp)
		delete(s.faults, sp.key())
		s.spans = slices.Replace(s.spans, at, at+1, sp.split()...)
		for _, half := range s.spans[at : at+2] {
			half.due = now
		}
		return nil
	default:
		if splittable(code) || code == illegalFunction {
			sp.due = now.Add(max(sp.every, refusedRetry))
		}
		s.faults[sp.key()] = fmt.Errorf("%s: %v", sp.points[0].name, err)
		s.box.Tell(connect.BadReadings(sp.points, now, err.Error())...)
	}
	s.status()
	return nil
}

// missed is a request without an answer. Its unit is left alone for a while,
// longer each time; when nobody answers the device is lost.
func (s *session) missed(ctx context.Context, sp *span, now time.Time, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.misses++
	s.silent[sp.unit]++
	wait := min(s.timeout<<min(s.silent[sp.unit], 10), maxSilence)
	var points []*point
	units := map[byte]bool{}
	for _, other := range s.spans {
		units[other.unit] = true
		if other.unit == sp.unit {
			points = append(points, other.points...)
			if until := now.Add(wait); other.due.Before(until) && s.silent[sp.unit] > 1 {
				other.due = until
			}
		}
	}
	s.faults[sp.key()] = fmt.Errorf("unit %d: %v", sp.unit, err)
	if s.misses >= 2+len(units) {
		return err
	}
	s.box.Tell(connect.BadReadings(points, now, err.Error())...)
	s.status()
	return nil
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

// status tells the worst there is to tell.
func (s *session) status() {
	if !s.up || len(s.faults) == 0 {
		s.up = true // once in any case: the device answers
		s.box.Up(fmt.Sprintf("%d points in %d requests", len(s.points), len(s.spans)))
	}
	if len(s.faults) > 0 {
		s.box.Trouble(s.faults[slices.Min(slices.Collect(maps.Keys(s.faults)))])
	}
}

// readings decodes an answer. What is no value of its type is a bad reading
// and, with its bytes, a dead letter.
func (s *session) readings(sp *span, answer []byte, now time.Time) []connect.Reading {
	rs := make([]connect.Reading, 0, len(sp.points))
	s.lost = false
	for _, p := range sp.points {
		raw, ok := sp.cut(p, answer)
		if !ok {
			rs = append(rs, connect.BadReadings([]*point{p}, now, "the answer is too short")...)
			continue
		}
		v, err := p.decode(raw)
		if err != nil {
			s.box.Dead(fmt.Sprintf("%s is no %s: %v", p.name, p.Type, err), raw, p.address.String())
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
	return connect.Reading{
		Point: p.name, Address: p.address.String(), Unit: p.measure, BoxTime: now, Exception: p.report,
		Values: map[string]string{"unit_id": strconv.Itoa(int(p.unit))},
	}
}

// key names a span by its first point.
func (s *span) key() string { return s.points[0].name }
