package server

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestSums: the sum of any range is the same whether it was taken piece by
// piece or at once.
func TestSums(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 9*sumBlock+12345)
	for i := range buf {
		buf[i] = byte(rnd.Uint32())
	}
	var s sums
	for n := 0; n < len(buf); n += 1 + rnd.IntN(2*sumBlock) {
		s = s.arrived(buf, n)
	}
	if got := len(s); got < 7 {
		t.Fatalf("%d blocks are summed, want at least 7", got)
	}
	ranges := [][2]int{{0, 0}, {0, len(buf)}, {sumBlock, 2 * sumBlock}, {sumBlock, sumBlock}, {1, sumBlock}, {1, 3*sumBlock - 1}}
	for range 300 {
		from := rnd.IntN(len(buf))
		ranges = append(ranges, [2]int{from, from + rnd.IntN(len(buf)-from)})
	}
	for _, r := range ranges {
		if got, want := s.of(buf[r[0]:r[1]], r[0]), crc32.Checksum(buf[r[0]:r[1]], castagnoli); got != want {
			t.Errorf("bytes %d to %d: sum %08x, want %08x", r[0], r[1], got, want)
		}
	}
}
