package replicator

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"slices"
)

// pair ties a source offset to one at the destination: whoever reads on there
// sees the records from the source offset on. The last number is how many
// records before it lie side by side at both ends.
type pair [3]int64

// pairs are in order of both offsets.
type pairs []pair

// maxPairs are remembered of a partition.
const maxPairs = 64

// add appends a pair. When there are too many, every other of the older half
// goes: the newer, the closer.
func (ps pairs) add(p pair) pairs {
	if n := len(ps); n > 0 && ps[n-1][0] == p[0] && ps[n-1][1] == p[1] {
		return ps
	}
	if n := len(ps); n > 0 && (p[0] < ps[n-1][0] || p[1] < ps[n-1][1]) {
		ps = nil // one end was set back: what is remembered would be ahead of it
	}
	ps = append(ps, p)
	if len(ps) <= maxPairs {
		return ps
	}
	var kept pairs
	for i, at := range ps {
		if i >= maxPairs/2 || i%2 == 0 {
			kept = append(kept, at)
		}
	}
	return kept
}

// until leaves out what lies behind a position.
func (ps pairs) until(next, dest int64) pairs {
	n := len(ps)
	for n > 0 && (ps[n-1][0] > next || ps[n-1][1] > dest) {
		n--
	}
	return ps[:n:n]
}

// translate returns where to read on at the destination to see what a reader
// at a source offset would see: there exactly, or with records before it
// again, but never without one. It is -1 for an offset that is older than
// what is remembered.
func (ps pairs) translate(offset int64) (dest int64, exact bool) {
	i, found := slices.BinarySearchFunc(ps, offset, func(p pair, at int64) int { return cmp.Compare(p[0], at) })
	switch {
	case found:
		return ps[i][1], true
	case i < len(ps) && ps[i][0]-offset <= ps[i][2]:
		return ps[i][1] - (ps[i][0] - offset), true
	case i == 0:
		return -1, false
	}
	return ps[i-1][1], false
}

// text is for the metadata of a committed offset, which Kafka limits to 4096
// bytes: base64 of varints, each number of a pair less the one of the pair before.
func (ps pairs) text() string {
	var b []byte
	last := pair{}
	for _, p := range ps {
		for i := range p {
			b = binary.AppendVarint(b, p[i]-last[i])
		}
		last = p
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// parsePairs reads what text wrote; anything else is no knowledge.
func parsePairs(s string) (ps pairs) {
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	last := pair{}
	for len(b) > 0 {
		p := last
		for i := range p {
			d, n := binary.Varint(b)
			if n <= 0 {
				return nil
			}
			p[i], b = p[i]+d, b[n:]
		}
		if p[0] < last[0] || p[1] < last[1] || p[2] < 0 || p[2] > p[1] || p[2] > p[0] || len(ps) == maxPairs {
			return nil
		}
		ps, last = append(ps, p), p
	}
	return ps
}
