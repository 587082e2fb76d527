package connect

import (
	"fmt"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// Exception is report by exception as the profile has it, ready to be used.
// Make one for each point; its zero value reports every reading.
type Exception struct {
	deadband float64
	changes  bool
	min, max time.Duration
}

// NewException returns nil where the profile asks for every reading.
func NewException(r site.Report) *Exception {
	if r == (site.Report{}) {
		return nil
	}
	e := &Exception{deadband: r.Deadband, changes: r.Changes || r.Deadband > 0}
	e.min, _ = time.ParseDuration(r.Min)
	e.max, _ = time.ParseDuration(r.Max)
	return e
}

// reporter remembers what was reported last of every point.
type reporter struct {
	mu     sync.Mutex
	points map[string]*reported
}

type reported struct {
	value   any
	quality Quality
	at      time.Time
	held    *Reading // newer, within the least interval
	due     time.Time
}

// take returns the readings that are to be recorded now.
func (p *reporter) take(rs []Reading, now time.Time) []Reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Reading, 0, len(rs))
	for _, r := range rs {
		if r.BoxTime.IsZero() {
			r.BoxTime = now
		}
		if r.Exception == nil || p.worth(r) {
			out = append(out, r)
		}
	}
	return out
}

func (p *reporter) worth(r Reading) bool {
	if p.points == nil {
		p.points = map[string]*reported{}
	}
	e, last := r.Exception, p.points[r.Point]
	if last == nil {
		p.points[r.Point] = &reported{value: r.Value, quality: r.Quality, at: r.BoxTime}
		return true
	}
	since := r.BoxTime.Sub(last.at)
	moved := !e.changes || r.Quality != last.quality || changed(r.Value, last.value, e.deadband)
	if !moved && (e.max == 0 || since < e.max) {
		last.held = nil // it came back to what is recorded
		return false
	}
	if since >= 0 && since < e.min {
		last.held, last.due = &r, last.at.Add(e.min)
		return false
	}
	*last = reported{value: r.Value, quality: r.Quality, at: r.BoxTime}
	return true
}

// due returns held readings whose least interval is over.
func (p *reporter) due(now time.Time) []Reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Reading
	for _, last := range p.points {
		if last.held != nil && !now.Before(last.due) {
			out = append(out, *last.held)
			*last = reported{value: last.held.Value, quality: last.held.Quality, at: now}
		}
	}
	return out
}

// changed is false while a number is within the dead band of the last.
func changed(now, last any, deadband float64) bool {
	a, ok1 := number(now)
	b, ok2 := number(last)
	if ok1 && ok2 && deadband > 0 {
		return math.Abs(a-b) >= deadband || math.IsNaN(a) != math.IsNaN(b)
	}
	if ok1 && ok2 && math.IsNaN(a) && math.IsNaN(b) {
		return false
	}
	return !reflect.DeepEqual(now, last)
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// text is a value as people write it.
func text(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case []byte:
		return string(x)
	case time.Time:
		return x.UTC().Format(timeFormat)
	}
	return fmt.Sprint(v)
}
