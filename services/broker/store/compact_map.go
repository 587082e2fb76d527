package store

import "encoding/binary"

// keyHash stands for a record's key: half a SHA-256, so that no two keys are
// taken for one by chance or by design.
type keyHash [16]byte

// mapBytes is the default of Options.CompactMap.
const mapBytes = 4 << 20

func (o *Options) compactMap() int {
	if o.CompactMap > 0 {
		return o.CompactMap
	}
	return mapBytes
}

const slotBytes = 24

// offsetMap knows the newest offset of each key in some range of a log. Its
// size is fixed: a range with more keys is compacted in several passes.
type offsetMap struct {
	slots []offsetSlot
	used  int
}

type offsetSlot struct {
	key  keyHash
	next int64 // offset + 1; 0 is an empty slot
}

func newOffsetMap(bytes int) *offsetMap {
	return &offsetMap{slots: make([]offsetSlot, max(2, bytes/slotBytes))}
}

// slot finds the key's slot, or the empty one where it belongs. One slot in
// five stays empty.
func (m *offsetMap) slot(k keyHash) *offsetSlot {
	n := uint64(len(m.slots))
	for i := binary.LittleEndian.Uint64(k[:]) % n; ; i = (i + 1) % n {
		if s := &m.slots[i]; s.next == 0 || s.key == k {
			return s
		}
	}
}

// put notes the newest offset of a key; false when there is no room for
// another key.
func (m *offsetMap) put(k keyHash, offset int64) bool {
	s := m.slot(k)
	if s.next == 0 {
		if (m.used+1)*5 > len(m.slots)*4 {
			return false
		}
		m.used++
		s.key = k
	}
	s.next = offset + 1
	return true
}

// newest returns the newest offset of a key; -1 when it is not known.
func (m *offsetMap) newest(k keyHash) int64 {
	if m == nil {
		return -1
	}
	return m.slot(k).next - 1
}

func (m *offsetMap) clear() {
	clear(m.slots)
	m.used = 0
}
