package delta

import "encoding/binary"

const (
	// blockSize is where the files of an EROFS root begin.
	blockSize = 4096
	// cutMask makes one place in 64 KiB one to cut at, where no file begins.
	cutMask = uint64(1<<16-1) << 40
)

// span is a segment to be: data[off:end].
type span struct{ off, end int }

// cut divides data into segments. Where it cuts depends on the content around
// and on nothing before, so that what was moved is cut the same: where a
// file begins in a root, else where a rolling hash says so. Of a file's padding
// a segment of zeros is made, because elsewhere, as in an initramfs, the same
// file is followed by something else.
//
// known are spans that are already parts, in order and without overlap.
func cut(data []byte, known []span) []span {
	var all []span
	at := 0
	for _, k := range append(known, span{len(data), len(data)}) {
		for at < k.off {
			end := at + next(data[at:k.off])
			all = appendTrimmed(all, data, span{at, end})
			at = end
		}
		if k.end > k.off {
			all = append(all, k)
		}
		at = k.end
	}
	return all
}

// next returns where the segment that begins data ends.
func next(data []byte) int {
	limit := min(len(data), maxSegment)
	var sum uint64
	// The hash is of the last 64 bytes: older ones are shifted out.
	for i := max(0, min(minSegment, limit)-64); i < limit; i++ {
		sum = sum<<1 + gear[data[i]]
		n := i + 1
		if n < minSegment {
			continue
		}
		if sum&cutMask == 0 || n%blockSize == 0 && fileBegins(data, n) {
			return n
		}
	}
	return limit
}

// fileBegins guesses that a file's content begins at a block: the block before
// ends with padding. Segments begin on blocks in a root, which next's caller
// need not know: elsewhere the guess is as good as any other.
func fileBegins(data []byte, at int) bool {
	return at+8 <= len(data) && binary.LittleEndian.Uint64(data[at-8:]) == 0 && data[at] != 0
}

// appendTrimmed appends a span, as two if it ends with many zeros.
func appendTrimmed(all []span, data []byte, s span) []span {
	end := s.end
	for end > s.off && data[end-1] == 0 {
		end--
	}
	if s.end-end < 16 {
		return append(all, s)
	}
	if end > s.off {
		all = append(all, span{s.off, end})
	}
	return append(all, span{end, s.end})
}

// gear gives each byte 64 bits without meaning (splitmix64): the numbers are
// not stored anywhere, they only decide what is found to be equal.
var gear = func() (t [256]uint64) {
	x := uint64(0)
	for i := range t {
		x += 0x9e3779b97f4a7c15
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		t[i] = z ^ z>>31
	}
	return t
}()
