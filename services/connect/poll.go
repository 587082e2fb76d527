package connect

import "time"

// What connectors that ask their device at intervals have in common.

// NextDue is when something is due again that was due at due, zero for the
// first time, and was done now; what was missed is not made up for.
func NextDue(due, now time.Time, every time.Duration) time.Time {
	if due.IsZero() {
		due = now
	}
	due = due.Add(every)
	if late := now.Sub(due); late > 0 {
		due = due.Add((late/every + 1) * every)
	}
	return due
}

// Point is one that is asked for.
type Point interface {
	// Reading is one of the point without a value yet.
	Reading(now time.Time) Reading
}

// BadReadings say of points why they have no value.
func BadReadings[P Point](points []P, now time.Time, detail string) []Reading {
	rs := make([]Reading, len(points))
	for i, p := range points {
		rs[i] = p.Reading(now)
		rs[i].Quality, rs[i].Detail = Bad, detail
	}
	return rs
}

// Tell is Readings of a device that is asked again in any case: what is wrong
// with one is a Trouble.
func (b *Box) Tell(rs ...Reading) {
	if err := b.Readings(rs...); err != nil {
		b.Trouble(err)
	}
}
