// Package flash writes an image to a disk such that the disk is either whole
// and read back, or obviously unfinished. The engineer's tool and the
// installer on a box both do it this way.
package flash

import (
	"slices"

	"github.com/waysideos/wayside/image/layout"
)

// Block is what ranges are rounded to, in bytes: the block of a block map, and
// a multiple of every sector.
const Block = int64(4096)

// Range is a part of a disk or image, in bytes.
type Range struct{ Off, Size int64 }

// End is the first byte behind a range.
func (r Range) End() int64 { return r.Off + r.Size }

// Total is the sum of all sizes.
func Total(all []Range) (n int64) {
	for _, r := range all {
		n += r.Size
	}
	return n
}

// Merge sorts ranges, rounds them to blocks and joins those that touch. What
// lies beyond size is cut off.
func Merge(all []Range, size int64) []Range {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Range) int { return int(min(1, max(-1, a.Off-b.Off))) })
	var out []Range
	for _, r := range sorted {
		from, to := r.Off/Block*Block, min((r.End()+Block-1)/Block*Block, size)
		if to <= from {
			continue
		}
		if n := len(out); n > 0 && from <= out[n-1].End() {
			out[n-1].Size = max(out[n-1].End(), to) - out[n-1].Off
			continue
		}
		out = append(out, Range{from, to - from})
	}
	return out
}

// split parts ranges at a place of the disk.
func split(all []Range, at int64) (before, after []Range) {
	for _, r := range all {
		if r.Off < at {
			before = append(before, Range{r.Off, min(r.End(), at) - r.Off})
		}
		if r.End() > at {
			from := max(r.Off, at)
			after = append(after, Range{from, r.End() - from})
		}
	}
	return before, after
}

const (
	// staleHead of a partition holds whatever tells a file system or a LUKS2
	// volume; ext4 has its first backup superblock at staleSuper.
	staleHead  = layout.MiB
	staleSuper = 128 * layout.MiB
)

// Stale are the places of a disk of size bytes where the first boot would find
// what an earlier system left there and go on with it: the backup partition
// table, and the file systems of the partitions that an image does not ship.
// Those begin behind shipped, in the order of parts; a small disk lacks some.
func Stale(parts []layout.Partition, shipped, size int64) []Range {
	all := []Range{{size - layout.MiB, layout.MiB}}
	starts := []int64{(shipped + layout.Alignment - 1) / layout.Alignment * layout.Alignment}
	for _, p := range parts {
		if p.Shipped {
			continue
		}
		for _, at := range slices.Clone(starts) {
			all = append(all, Range{at, staleHead}, Range{at + staleSuper, Block})
			if p.Size > 0 {
				starts = append(starts, at+p.Size)
			}
		}
	}
	_, behind := split(Merge(all, size), shipped)
	return behind
}
