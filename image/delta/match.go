package delta

import (
	"context"
	"encoding/binary"
	"fmt"
)

// matcher finds the grains of segments in sources. Four bytes of hash are too
// few to believe a single grain: neighbours must be found side by side, or at
// the same distance from where the segment lies.
type matcher struct {
	index   *Index
	scanner *scanner
	parts   []int
	first   []int     // grain number at which each part begins
	sizes   [][]int32 // of each part's pieces, compressed
	grain   []int32   // scanner number of each grain
	sample  []int32   // of each scanner number, the first grain that has it
	at      []place   // of each scanner number
	shift   place     // of the last two grains found side by side
}

func newMatcher(x *Index) *matcher {
	return &matcher{index: x, scanner: newScanner(x.grain)}
}

// add takes what the pack has of a part's grains and pieces. What is wrong with
// it shows when the segment is checked.
func (m *matcher) add(part int, hashes []byte) {
	x := &m.index.parts[part]
	m.parts = append(m.parts, part)
	m.first = append(m.first, len(m.grain))
	for range x.size / m.index.grain {
		number := m.scanner.add(binary.LittleEndian.Uint32(hashes))
		if number == len(m.sample) {
			m.sample = append(m.sample, int32(len(m.grain)))
			m.at = append(m.at, nowhere)
		}
		m.grain = append(m.grain, int32(number))
		hashes = hashes[grainDigest:]
	}
	var sizes []int32
	for len(hashes) > 0 {
		size, n := binary.Uvarint(hashes)
		if n <= 0 || size > limitSegment {
			break
		}
		sizes = append(sizes, int32(size))
		hashes = hashes[n:]
	}
	m.sizes = append(m.sizes, sizes)
}

func (m *matcher) scan(ctx context.Context, source int, src Source) error {
	grain := int64(m.index.grain)
	err := m.scanner.scan(ctx, src, func(number int, off int64) error {
		i := m.sample[number]
		shift := place{int32(source), off - int64(i)*grain}
		follows := i > 0 && m.at[m.grain[i-1]] == place{int32(source), off - grain}
		if follows || !m.at[number].held() || shift == m.shift {
			m.at[number] = place{int32(source), off}
		}
		if follows {
			m.shift = shift
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for grains: %w", err)
	}
	return nil
}

// near is how far from where its neighbours lie a grain is believed that was
// found alone: a hash alone would be right by chance too often.
const near = 16 << 10

// settle gives each part the grains found of it, where that takes less than
// the whole segment.
func (m *matcher) settle(plan *Plan) {
	for k, places := range m.places() {
		n := m.parts[k]
		x := &m.index.parts[n]
		o := origin{from: pieced, grains: places, sizes: m.sizes[k]}
		var cost int64
		for _, p := range o.pieces(m.index, x) {
			cost += p.size + gap/4
		}
		if cost < x.whole.size && len(o.sizes) == (x.size+m.index.piece-1)/m.index.piece {
			plan.origin[n] = o
		}
	}
}

// places are, of each part, where its grains are held.
func (m *matcher) places() [][]place {
	believed := make([]bool, len(m.at))
	for k := range m.parts {
		m.believe(m.grains(k), believed)
	}
	var all [][]place
	for k := range m.parts {
		var places []place
		for _, number := range m.grains(k) {
			if believed[number] {
				places = append(places, m.at[number])
			} else {
				places = append(places, nowhere)
			}
		}
		all = append(all, places)
	}
	return all
}

// grains are the scanner numbers of a part's grains.
func (m *matcher) grains(k int) []int32 {
	if k+1 < len(m.first) {
		return m.grain[m.first[k]:m.first[k+1]]
	}
	return m.grain[m.first[k]:]
}

// believe marks the numbers of a part's grains that lie as their neighbours do.
func (m *matcher) believe(grains []int32, believed []bool) {
	size := int64(m.index.grain)
	beside := func(i, j int) bool {
		if j < 0 || j >= len(grains) {
			return false
		}
		a, b := m.at[grains[i]], m.at[grains[j]]
		return b.held() && a.source == b.source && b.off-a.off == int64(j-i)*size
	}
	pass := func(i int, last *place) {
		at := m.at[grains[i]]
		if !at.held() {
			return
		}
		shift := place{at.source, at.off - int64(i)*size}
		close := last.source == shift.source && max(last.off-shift.off, shift.off-last.off) < near
		if beside(i, i-1) || beside(i, i+1) || close {
			believed[grains[i]] = true
			*last = shift
		}
	}
	last := place{source: -1}
	for i := range grains {
		pass(i, &last)
	}
	for i := len(grains) - 1; i >= 0; i-- {
		pass(i, &last)
	}
}

// piece is one piece of a segment in the fine area.
type piece struct {
	extent
	from, to int // bytes of the segment
}

// pieces are those needed for what is held nowhere.
func (o *origin) pieces(x *Index, p *part) []piece {
	var all []piece
	at := p.pieces.off
	for i, size := range o.sizes {
		from, to := i*x.piece, min((i+1)*x.piece, p.size)
		for g := from / x.grain; g*x.grain < to; g++ {
			if g >= len(o.grains) || !o.grains[g].held() {
				all = append(all, piece{extent{at, int64(size)}, from, to})
				break
			}
		}
		at += int64(size)
	}
	return all
}
