package server

import (
	"hash/crc32"
	"sync"
)

// sums are the CRC-32C of a request's bytes, block by block, taken as they come
// off the socket: a request may be longer than the processor's caches, and
// reading it from memory again for the checksums of its batches costs more than
// they do.
type sums []uint32

const (
	sumBlock = 64 << 10
	// sumPiece is how much is read at a time, to be summed while it is in the
	// cache of the core.
	sumPiece = 4 * sumBlock
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// arrived is told what is there of the request: of b its first n bytes.
func (s sums) arrived(b []byte, n int) sums {
	for at := len(s) * sumBlock; at+sumBlock <= n; at += sumBlock {
		s = append(s, crc32.Checksum(b[at:at+sumBlock], castagnoli))
	}
	return s
}

// of is the checksum of b, which lies at a position of the request.
func (s sums) of(b []byte, at int) uint32 {
	first, last := (at+sumBlock-1)/sumBlock, min((at+len(b))/sumBlock, len(s))
	if len(s) == 0 || last <= first {
		return crc32.Checksum(b, castagnoli)
	}
	sum := crc32.Checksum(b[:first*sumBlock-at], castagnoli)
	for _, block := range s[first:last] {
		sum = afterBlock(sum) ^ block
	}
	return crc32.Update(sum, castagnoli, b[last*sumBlock-at:])
}

// afterBlock is what a sum contributes to the sum of the same bytes and a block
// more. That is linear in its bits, so a table for each of its bytes holds it.
func afterBlock(sum uint32) uint32 {
	t := blockTables()
	return t[0][byte(sum)] ^ t[1][byte(sum>>8)] ^ t[2][byte(sum>>16)] ^ t[3][byte(sum>>24)]
}

var blockTables = sync.OnceValue(func() *[4][256]uint32 {
	zeros := make([]byte, sumBlock)
	none := crc32.Update(0, castagnoli, zeros)
	var bits [32]uint32
	for i := range bits {
		bits[i] = crc32.Update(1<<i, castagnoli, zeros) ^ none
	}
	t := new([4][256]uint32)
	for i := range t {
		for v := range t[i] {
			for bit := range 8 {
				if v>>bit&1 != 0 {
					t[i][v] ^= bits[8*i+bit]
				}
			}
		}
	}
	return t
})
