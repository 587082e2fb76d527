package disk

// Used calls yield with every stretch of the volume that matters, as offset
// and size in bytes, in order: boot sectors, FATs, and the clusters in use.
// What lies in free clusters is nobody's.
func (f *FAT) Used(yield func(off, size int64)) {
	yield(0, f.g.dataStart())
	for n := uint32(2); n <= f.g.clusters+1; n++ {
		first := n
		for n <= f.g.clusters+1 && int64(n)*fatEntry+fatEntry <= int64(len(f.fat)) && le.Uint32(f.fat[n*fatEntry:])&fatMask != 0 {
			n++
		}
		if n > first {
			yield(f.g.clusterOffset(first), int64(n-first)*f.g.clusterSize())
		}
	}
}
