package delta

import "encoding/binary"

// Edits turn what a segment is like into the segment. An edit is a uvarint of
// twice the bytes that are right since the last one, plus one if bytes follow
// that replace; else it is what to add, modulo 2^32, to the little-endian
// number that begins there. Whatever an instruction or a table refers to is
// such a number, and what moved together has one difference in common.

// appendEdits appends what makes data of like, which is as long.
func appendEdits(b, like, data []byte) []byte {
	last := 0
	for i := 0; i < len(data); {
		if like[i] == data[i] {
			i++
			continue
		}
		gap := uint64(i-last) << 1
		if n := unlike(like[i:], data[i:]); n > 0 {
			b = binary.AppendUvarint(b, gap|1)
			b = binary.AppendUvarint(b, uint64(n))
			b = append(b, data[i:i+n]...)
			i += n
		} else {
			b = binary.AppendUvarint(b, gap)
			b = binary.AppendVarint(b, int64(int32(binary.LittleEndian.Uint32(data[i:])-binary.LittleEndian.Uint32(like[i:]))))
			i += 4
		}
		last = i
	}
	return b
}

// unlike is how many bytes are better replaced than edited, at the beginning;
// 0 if it is a number that changed.
func unlike(like, data []byte) int {
	const window, enough = 16, 8 // bytes looked at; that must be equal for content to be like again
	if len(data) < 4 {
		return len(data)
	}
	others := 0
	for i := range min(window, len(data)) {
		if like[i] != data[i] {
			others++
		}
	}
	if others < window/2 {
		return 0
	}
	equal := 0
	for i := range data {
		if equal++; like[i] != data[i] {
			equal = 0
		}
		if equal == enough {
			return i + 1 - enough
		}
	}
	return len(data) - equal
}

// edit carries out edits, to the end of what is to be decoded.
func (d *decoder) edit(buf []byte) {
	at := 0
	for d.err == nil && len(d.data) > 0 {
		head := int(d.uint("place of an edit", 0, 2*int64(len(buf))+1))
		at += head >> 1
		if head&1 == 1 {
			n := int(d.uint("bytes of an edit", 1, int64(len(buf)-at)))
			if data := d.bytes(n); d.err == nil {
				at += copy(buf[at:], data)
			}
			continue
		}
		diff, n := binary.Varint(d.data)
		if n <= 0 || at+4 > len(buf) {
			d.fail("an edit is cut off")
			break
		}
		d.data = d.data[n:]
		binary.LittleEndian.PutUint32(buf[at:], binary.LittleEndian.Uint32(buf[at:])+uint32(diff))
		at += 4
	}
}
