package fat

// Used calls yield with every stretch of the volume that matters, as offset
// and size in bytes, in order: boot sectors, FATs, and the clusters in use.
func (v *Volume) Used(yield func(off, size int64)) {
	yield(0, v.dataStart())
	for c := uint32(2); c < v.clusters+2; c++ {
		first := c
		for c < v.clusters+2 && v.next(c) != 0 {
			c++
		}
		if c > first {
			yield(v.offset(first), int64(c-first)*v.clusterSize())
		}
	}
}
