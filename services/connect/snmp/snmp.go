// Package snmp reads and writes the objects of SNMP agents (versions 1, 2c
// and 3), and receives traps and informs.
package snmp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const (
	// refusedRetry is when a point is asked for again that the agent refuses
	// with an error.
	refusedRetry = time.Minute
	// maxSilence is the longest time for which a request is left alone that
	// the agent does not answer while it answers others.
	maxSilence = time.Minute
	// sysUpTime.0 is asked of an agent that did not answer something else.
	sysUpTime = ".1.3.6.1.2.1.1.3.0"
)

// Connector is one agent of the profile.
type Connector struct {
	cfg     *site.SNMP
	timeout time.Duration
	points  []*point
	walks   []*walk

	lost bool // all points were told to be bad and none was good since
}

// New takes an agent of a checked profile.
func New(cfg site.SNMP) (connect.Connector, error) {
	c := &Connector{cfg: &cfg}
	var errs []error
	span := func(text string) time.Duration {
		d, err := time.ParseDuration(text)
		errs = append(errs, err)
		return d
	}
	c.timeout = span(cfg.Timeout)
	for _, p := range cfg.Points {
		c.points = append(c.points, &point{
			value: value{p.Text, p.Scale, p.Offset}, name: p.Name, oid: "." + p.OID, unit: p.Unit, every: span(p.Every),
			writable: p.Writable, readBack: *p.ReadBack, report: connect.NewException(p.Report),
		})
	}
	for _, w := range cfg.Walks {
		c.walks = append(c.walks, &walk{
			point: point{
				value: value{w.Text, w.Scale, w.Offset}, name: w.Name, oid: "." + w.OID, unit: w.Unit, every: span(w.Every),
				report: connect.NewException(w.Report),
			},
			maxRows: w.MaxRows, known: map[string]bool{},
		})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("snmp agent %s: %v", cfg.Name, err)
	}
	return c, nil
}

// Run implements connect.Connector.
func (c *Connector) Run(ctx context.Context, box *connect.Box) error {
	client, err := c.dial(ctx, box)
	if err != nil {
		return c.away(ctx, box, err)
	}
	// An answer is waited for until the socket is closed.
	conn := client.Conn
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	s := &session{Connector: c, box: box, client: client, jobs: plan(c.points, c.walks, c.cfg.MaxOIDs), faults: map[string]error{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := slices.MinFunc(s.jobs, func(a, b *job) int { return a.due.Compare(b.due) })
		timer.Reset(time.Until(next.due))
		select {
		case <-ctx.Done():
			return nil
		case cmd := <-box.Commands():
			cmd.Result(s.write(cmd))
		case <-timer.C:
			if err := s.poll(next); err != nil {
				return c.away(ctx, box, err)
			}
		}
	}
}

// away ends a session: every point is told to be bad, once.
func (c *Connector) away(ctx context.Context, box *connect.Box, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if !c.lost {
		now := time.Now()
		rs := connect.BadReadings(c.points, now, err.Error())
		for _, w := range c.walks {
			rs = append(rs, w.bad(w.rows, now, err.Error())...)
		}
		box.Tell(rs...)
		c.lost = true
	}
	return fmt.Errorf("talk to %s: %v", c.cfg.Address, err)
}

// session is one Run.
type session struct {
	*Connector
	box    *connect.Box
	client *gosnmp.GoSNMP
	jobs   []*job
	up     bool
	faults map[string]error // what is wrong now, by the job's name
}

// poll does one job and tells what it brought. An error is an agent that is
// lost.
func (s *session) poll(j *job) error {
	j.due = connect.NextDue(j.due, time.Now(), j.every)
	delete(s.faults, j.name())
	var err error
	if j.walk != nil {
		err = s.walk(j.walk)
	} else {
		err = s.get(j)
	}
	var no refusal
	switch {
	case err == nil:
		j.misses = 0
	case errors.As(err, &no):
		j.misses = 0
		s.refused(j, no)
	default:
		if _, probe := answer(s.client.Get([]string{sysUpTime})); probe != nil && !errors.As(probe, &no) {
			return err
		}
		j.misses++
		j.due = time.Now().Add(max(j.every, min(s.timeout<<min(j.misses, 10), maxSilence)))
		s.fault(j, err)
	}
	s.status()
	return nil
}

// get asks for a group of points.
func (s *session) get(j *job) error {
	oids := make([]string, len(j.points))
	for i, p := range j.points {
		oids[i] = p.oid
	}
	pdus, err := answer(s.client.Get(oids))
	if err != nil {
		return err
	}
	now := time.Now()
	rs := make([]connect.Reading, len(j.points))
	for i, p := range j.points {
		rs[i] = p.Reading(now)
		switch {
		case i >= len(pdus) || pdus[i].Name != p.oid:
			err = errors.New("the agent's answer does not have it")
		default:
			rs[i].Value, err = p.decode(pdus[i])
		}
		if err != nil {
			rs[i].Value, rs[i].Quality, rs[i].Detail = nil, connect.Bad, err.Error()
		}
	}
	s.lost = false
	s.box.Tell(rs...)
	return nil
}

// refused is an answer that the agent cannot do it. Which point is at fault
// is found by asking for fewer; a point that stands alone is bad.
func (s *session) refused(j *job, no refusal) {
	if parts := j.split(no.index); parts != nil {
		at := slices.Index(s.jobs, j)
		s.jobs = slices.Replace(s.jobs, at, at+1, parts...)
		return
	}
	j.due = time.Now().Add(max(j.every, refusedRetry))
	s.fault(j, no)
}

// fault tells that a job brought nothing.
func (s *session) fault(j *job, err error) {
	s.faults[j.name()] = fmt.Errorf("%s: %v", j.name(), err)
	now := time.Now()
	rs := connect.BadReadings(j.points, now, err.Error())
	if j.walk != nil {
		rs = j.walk.bad(j.walk.rows, now, err.Error())
	}
	s.box.Tell(rs...)
}

// status tells the worst there is to tell.
func (s *session) status() {
	if !s.up || len(s.faults) == 0 {
		s.up = true // once in any case: the agent answers
		s.box.Up(fmt.Sprintf("%d points and %d walks in %d requests", len(s.points), len(s.walks), len(s.jobs)))
	}
	if len(s.faults) > 0 {
		s.box.Trouble(s.faults[slices.Min(slices.Collect(maps.Keys(s.faults)))])
	}
}
