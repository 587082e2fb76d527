package delta

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// aligner finds what older content new content is like: where code only
// moved, the two differ in what it refers to, a byte or two at a time, and
// lie side by side for long stretches. The writer of a patch has the memory
// for it, four bytes for each seedStep of old content.
type aligner struct {
	old   []byte
	table []uint32 // by hash of a seed, its offset in old plus one
	shift uint     // of a hash, to be an index of table
}

const (
	seedSize = 24 // bytes that must be equal for two places to be compared
	seedStep = 8  // every so many bytes of old content a seed is looked for
	// better is by how many bytes another place must fit better than the one
	// that was right so far.
	better = 8
	// lookBack bounds how far before a seed the other place is tried.
	lookBack = 64 << 10
)

func newAligner(old []byte) *aligner {
	width := max(10, bits.Len(uint(len(old)/seedStep)))
	a := &aligner{old: old, table: make([]uint32, 1<<width), shift: uint(64 - width)}
	for i := 0; i+seedSize <= len(old); i += seedStep {
		if at := &a.table[a.hash(old[i:])]; *at == 0 { // what is repeated is found where it is first
			*at = uint32(i + 1)
		}
	}
	return a
}

func (a *aligner) hash(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b)*rollBase ^
		bits.RotateLeft64(binary.LittleEndian.Uint64(b[8:])*0xbf58476d1ce4e5b9, 21) ^
		bits.RotateLeft64(binary.LittleEndian.Uint64(b[16:])*0x94d049bb133111eb, 42)
	return (x ^ x>>29) * 0xbf58476d1ce4e5b9 >> a.shift
}

// run is size bytes of new content and the offset in old of what they are
// like; it may reach beyond both ends of old.
type run struct{ from, size int }

// align divides data into runs. from is the offset in old that its first byte
// is expected to be like.
func (a *aligner) align(data []byte, from int) []run {
	var runs []run
	begin, shift := 0, from // of the run that is open; shift is offset in old less that in data
	fits := 0               // where the run was last seen to fit
	for i := 0; i+seedSize <= len(data); {
		if a.equal(data[i:i+8], i+shift) {
			i += 8
			fits = i
			continue
		}
		at, size := a.find(data, i)
		if size == 0 || size-a.like(data[i:i+size], i+shift) <= better {
			i++
			continue
		}
		end := a.turn(data, max(begin, fits), i, shift, at-i)
		runs = append(runs, run{begin + shift, end - begin})
		begin, shift, i = end, at-i, i+size
		fits = i
	}
	return append(runs, run{begin + shift, len(data) - begin})
}

func (a *aligner) equal(data []byte, at int) bool {
	return at >= 0 && at+len(data) <= len(a.old) && bytes.Equal(a.old[at:at+len(data)], data)
}

// like counts the bytes that are equal.
func (a *aligner) like(data []byte, at int) (n int) {
	for i, b := range data {
		if at+i >= 0 && at+i < len(a.old) && a.old[at+i] == b {
			n++
		}
	}
	return n
}

// find looks for what follows at i in old, size 0 if it is not there.
func (a *aligner) find(data []byte, i int) (at, size int) {
	at = int(a.table[a.hash(data[i:])]) - 1
	if at < 0 || !bytes.Equal(a.old[at:at+seedSize], data[i:i+seedSize]) {
		return 0, 0
	}
	for size = seedSize; i+size < len(data) && at+size < len(a.old) && a.old[at+size] == data[i+size]; size++ {
	}
	return at, size
}

// turn is where between low and high it is best to go from one shift to
// another that fits at high.
func (a *aligner) turn(data []byte, low, high, before, after int) int {
	best, most, sum := high, 0, 0
	for i := high - 1; i >= low && high-i < lookBack && sum > -2*seedSize; i-- {
		sum += a.like(data[i:i+1], i+after) - a.like(data[i:i+1], i+before)
		if sum > most {
			best, most = i, sum
		}
	}
	return best
}
