package delta

// roller is a polynomial hash of the last size bytes. It is quick and no more:
// whatever it finds is checked by a digest.
type roller struct {
	sum  uint64
	size int
	drop [256]uint64 // what a byte adds to the sum, size bytes later
}

const rollBase = 0x9e3779b97f4a7c15 | 1

func newRoller(size int) *roller {
	r := &roller{size: size}
	power := uint64(1)
	for range size {
		power *= rollBase
	}
	for b := range r.drop {
		r.drop[b] = (uint64(b) + 1) * power
	}
	return r
}

// reset makes the window data, of size bytes.
func (r *roller) reset(data []byte) {
	r.sum = 0
	for _, b := range data[:r.size] {
		r.sum = r.sum*rollBase + uint64(b) + 1
	}
}

// hash is 32 bits of the window: the high half of the sum depends on every
// byte, the low bits only on low bits.
func (r *roller) hash() uint32 { return uint32((r.sum ^ r.sum>>29) * 0xbf58476d1ce4e5b9 >> 32) }

func (r *roller) next(out, in byte) {
	r.sum = r.sum*rollBase + uint64(in) + 1 - r.drop[out]
}

// weak hashes data of size bytes.
func (r *roller) weak(data []byte) uint32 {
	r.reset(data)
	return r.hash()
}
