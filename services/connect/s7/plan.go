package s7

import (
	"cmp"
	"slices"
	"time"

	"github.com/waysideos/wayside/services/connect"
)

// point is one value of a PLC.
type point struct {
	codec
	name     string
	measure  string // unit of measure
	every    time.Duration
	writable bool
	readBack bool
	report   *connect.Exception
}

// piece is one item of a job and the points that lie in it, by address.
type piece struct {
	item
	points []*point
	every  time.Duration
	due    time.Time
	fault  error // what the PLC said of it last
}

// gap is how many bytes nobody asked for may lie between two points of one
// item: an item of its own costs as many in request and answer.
const gap = itemSize + 4

// mostOf is how many bytes one item of an answer can have.
func mostOf(pdu int) int { return pdu - ackSize - 2 - 4 }

// plan groups points into items; pack makes jobs of them. A STRING that is
// longer than an answer is read as far as it fits.
func plan(points []*point, pdu int) []*piece {
	points = slices.Clone(points)
	slices.SortStableFunc(points, func(a, b *point) int {
		return cmp.Or(cmp.Compare(a.every, b.every), cmp.Compare(a.Area, b.Area), cmp.Compare(a.DB, b.DB), cmp.Compare(a.Start, b.Start))
	})
	var pieces []*piece
	for _, p := range points {
		if n := len(pieces); n > 0 && pieces[n-1].take(p, mostOf(pdu)) {
			continue
		}
		pieces = append(pieces, pieceOf([]*point{p}, mostOf(pdu)))
	}
	return pieces
}

// take adds a point that lies at or behind the piece's start, if one item can
// have both.
func (c *piece) take(p *point, most int) bool {
	size := max(c.size, p.Start+p.Size-c.start)
	if p.every != c.every || p.Area != c.area || p.DB != c.db || size > most || p.Start-(c.start+c.size) > gap {
		return false
	}
	c.size = size
	c.points = append(c.points, p)
	return true
}

// pieceOf is the item for points of one area, sorted by address.
func pieceOf(points []*point, most int) *piece {
	p := points[0]
	c := &piece{item: item{area: p.Area, db: p.DB, start: p.Start, bit: -1}, every: p.every, points: points}
	for _, p := range points {
		c.size = min(max(c.size, p.Start+p.Size-c.start), most)
	}
	return c
}

// split halves an item that the PLC refuses because of a part of it; nil when
// there is nothing to halve.
func (c *piece) split(most int) []*piece {
	if len(c.points) < 2 {
		return nil
	}
	half := len(c.points) / 2
	a, b := pieceOf(c.points[:half:half], most), pieceOf(c.points[half:], most)
	a.due, b.due = c.due, c.due
	return []*piece{a, b}
}

// pack takes as many of the pieces as one job and its answer can have, in
// their order.
func pack(pieces []*piece, pdu int) (first []*piece) {
	request, answer := headSize+2, ackSize+2
	for _, c := range pieces {
		request += itemSize
		answer += 4 + c.size + c.size%2
		if len(first) > 0 && (request > pdu || answer > pdu || len(first) == maxItems) {
			break
		}
		first = append(first, c)
	}
	return first
}

// cut returns a point's part of the piece's bytes.
func (c *piece) cut(p *point, data []byte) []byte {
	from := min(p.Start-c.start, len(data))
	return data[from:min(from+p.Size, len(data))]
}
