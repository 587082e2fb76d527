package modbus

import (
	"cmp"
	"slices"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// point is one value of a device.
type point struct {
	codec
	name     string
	measure  string // unit of measure
	unit     byte   // the device behind a gateway
	address  site.ModbusAddress
	every    time.Duration
	writable bool
	readBack bool
	report   *connect.Exception
}

// size is how many registers, or bits, a point takes.
func (p *point) size() int { return max(1, p.registers) }

func (p *point) end() int { return int(p.address.Number) + p.size() }

// span is one request and the points that its answer holds, by address.
type span struct {
	unit   byte
	table  site.ModbusTable
	start  uint16
	count  int // registers or bits
	every  time.Duration
	due    time.Time
	points []*point
}

// limits are what a device can answer at once.
type limits struct {
	registers, bits int // of one request
	gap             int // registers (16 times as many bits) read for nothing, to save a request
}

func (l limits) of(t site.ModbusTable) (most, gap int) {
	if t.Bits() {
		return l.bits, 16 * l.gap
	}
	return l.registers, l.gap
}

// plan groups points into requests. Every point is in exactly one of them,
// and those read at different intervals never share one.
func plan(points []*point, l limits) []*span {
	points = slices.Clone(points)
	slices.SortStableFunc(points, func(a, b *point) int {
		return cmp.Or(
			cmp.Compare(a.every, b.every), cmp.Compare(a.unit, b.unit),
			cmp.Compare(a.address.Table, b.address.Table), cmp.Compare(a.address.Number, b.address.Number),
		)
	})
	var spans []*span
	for _, p := range points {
		if n := len(spans); n > 0 && spans[n-1].take(p, l) {
			continue
		}
		spans = append(spans, spanOf([]*point{p}))
	}
	return spans
}

// take adds a point that lies at or behind the span's start, if one request
// can have both.
func (s *span) take(p *point, l limits) bool {
	if p.unit != s.unit || p.address.Table != s.table || p.every != s.every {
		return false
	}
	most, gap := l.of(s.table)
	count := max(s.count, p.end()-int(s.start))
	if count > most || int(p.address.Number)-(int(s.start)+s.count) > gap {
		return false
	}
	s.count = count
	s.points = append(s.points, p)
	return true
}

// spanOf is the request for points of one table, sorted by address.
func spanOf(points []*point) *span {
	first := points[0]
	s := &span{unit: first.unit, table: first.address.Table, start: first.address.Number, every: first.every, points: points}
	for _, p := range points {
		s.count = max(s.count, p.end()-int(s.start))
	}
	return s
}

// split halves a request that the device refuses because of one of its
// points, or of a hole between them; nil when there is nothing to halve.
func (s *span) split() []*span {
	if len(s.points) < 2 {
		return nil
	}
	half := len(s.points) / 2
	a, b := spanOf(s.points[:half:half]), spanOf(s.points[half:])
	a.due, b.due = s.due, s.due
	return []*span{a, b}
}

// cut returns a point's part of the span's answer: 2 bytes a register, or one
// byte, 0 or 1, for a bit. False: the answer is too short.
func (s *span) cut(p *point, answer []byte) ([]byte, bool) {
	at := int(p.address.Number) - int(s.start)
	if s.table.Bits() {
		if at/8 >= len(answer) {
			return nil, false
		}
		return []byte{answer[at/8] >> (at % 8) & 1}, true
	}
	from, to := 2*at, 2*(at+p.size())
	if to > len(answer) {
		return nil, false
	}
	return answer[from:to], true
}
