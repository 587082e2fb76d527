package snmp

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/connect"
)

// point is one object of an agent.
type point struct {
	value
	name     string
	oid      string // with a dot before it, as the library has them
	unit     string
	every    time.Duration
	writable bool
	readBack bool
	report   *connect.Exception
}

// Reading implements connect.Point.
func (p *point) Reading(now time.Time) connect.Reading {
	return connect.Reading{Point: p.name, Address: strings.TrimPrefix(p.oid, "."), Unit: p.unit, BoxTime: now, Exception: p.report}
}

// walk is a subtree, whose objects are named by what follows its OID.
type walk struct {
	point
	maxRows int
	rows    []string // of the last walk, such as ".3"
	// known are rows that report by exception remembers; an agent that makes
	// up new ones must not use up the memory, so they are at most maxRows.
	known map[string]bool
}

// row is a reading of one object below the walk.
func (w *walk) row(index string, now time.Time) connect.Reading {
	r := w.Reading(now)
	r.Point += index
	r.Address += index
	if len(w.known) < w.maxRows {
		w.known[index] = true
	}
	if !w.known[index] {
		r.Exception = nil
	}
	return r
}

func (w *walk) bad(rows []string, now time.Time, detail string) []connect.Reading {
	rs := make([]connect.Reading, len(rows))
	for i, index := range rows {
		rs[i] = w.row(index, now)
		rs[i].Quality, rs[i].Detail = connect.Bad, detail
	}
	return rs
}

// job is one GET, or one walk.
type job struct {
	points []*point
	walk   *walk // nil: a GET of points
	every  time.Duration
	due    time.Time
	misses int // in a row: no answer, while others have one
}

// plan groups points into GETs of at most maxOIDs, each of one interval.
func plan(points []*point, walks []*walk, maxOIDs int) []*job {
	points = slices.Clone(points)
	slices.SortStableFunc(points, func(a, b *point) int { return cmp.Compare(a.every, b.every) })
	var jobs []*job
	for _, p := range points {
		if n := len(jobs); n > 0 && jobs[n-1].every == p.every && len(jobs[n-1].points) < maxOIDs {
			jobs[n-1].points = append(jobs[n-1].points, p)
			continue
		}
		jobs = append(jobs, &job{points: []*point{p}, every: p.every})
	}
	for _, w := range walks {
		jobs = append(jobs, &job{walk: w, every: w.every})
	}
	return jobs
}

// split parts a GET that was refused: the point at fault, counted from 1,
// from the others, or in halves where the agent does not say which it is; nil
// when there is nothing to part. The parts are due at once.
func (j *job) split(fault int) []*job {
	n := len(j.points)
	if n < 2 {
		return nil
	}
	part := func(points ...[]*point) *job { return &job{points: slices.Concat(points...), every: j.every} }
	if fault < 1 || fault > n {
		return []*job{part(j.points[:n/2]), part(j.points[n/2:])}
	}
	return []*job{part(j.points[:fault-1], j.points[fault:]), part(j.points[fault-1 : fault])}
}

// name is that of the first point.
func (j *job) name() string {
	if j.walk != nil {
		return j.walk.name
	}
	return j.points[0].name
}
