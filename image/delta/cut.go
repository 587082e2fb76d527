package delta

import "encoding/binary"

const (
	// blockSize is where the files of an EROFS root begin.
	blockSize = 4096
	// cutMask makes one place in 64 KiB one to cut at, where no file begins.
	cutMask = uint64(1<<16-1) << 40
	// fewZeros are left in the segment they belong to.
	fewZeros = 16
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
			end := next(data[:k.off], at)
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

// next returns where the segment ends that begins at begin.
func next(data []byte, begin int) int {
	limit := min(len(data), begin+maxSegment)
	var sum uint64
	for i := begin; i < limit; i++ {
		sum = sum<<1 + gear[data[i]] // of the last 64 bytes: older ones are shifted out
		end := i + 1
		if end%blockSize == 0 && fileBegins(data, end) || end-begin >= minSegment && sum&cutMask == 0 {
			return end
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

// appendTrimmed appends a span, with many zeros at its beginning and at its end
// as spans of their own. A segment that began with zeros would be looked for
// wherever there are some.
func appendTrimmed(all []span, data []byte, s span) []span {
	begin, end := s.off, s.end
	for begin < end && data[begin] == 0 {
		begin++
	}
	for end > begin && data[end-1] == 0 {
		end--
	}
	if begin-s.off < fewZeros {
		begin = s.off
	}
	if s.end-end < fewZeros {
		end = s.end
	}
	for _, part := range []span{{s.off, begin}, {begin, end}, {end, s.end}} {
		if part.end > part.off {
			all = append(all, part)
		}
	}
	return all
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
