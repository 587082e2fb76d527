package store

import (
	"encoding/binary"
	"hash/crc32"
)

// control is what a batch means to its producer's transaction: the type in
// the key of a control record (KIP-98).
type control int8

const (
	data        control = -2 // not a control batch
	unknown     control = -1 // a control batch that is no transaction marker
	abortMarker control = 0
	commitMark  control = 1
)

// markerSize of a control batch that ends a transaction, in bytes: header,
// and one record of which every varint takes one byte: length, attributes,
// two deltas, key length, key (int16 version, int16 type), value length,
// value (int16 version, int32 coordinator epoch), header count.
const markerSize = HeaderSize + 1 + 16

// newMarker makes a control batch. Its place in the log is patched later.
func newMarker(pid int64, epoch int16, c control, coordinator int32, ms int64) []byte {
	be := binary.BigEndian
	b := make([]byte, HeaderSize, markerSize)
	be.PutUint32(b[8:], markerSize-prefixSize)
	b[magicAt] = 2
	be.PutUint16(b[21:], attrControl|attrTransactional)
	be.PutUint64(b[27:], uint64(ms))
	be.PutUint64(b[35:], uint64(ms))
	be.PutUint64(b[43:], uint64(pid))
	be.PutUint16(b[51:], uint16(epoch))
	be.PutUint32(b[53:], 0xffffffff) // no sequence
	be.PutUint32(b[57:], 1)
	b = append(b, 16<<1, 0, 0, 0, 4<<1, 0, 0, 0, byte(c), 6<<1, 0, 0)
	b = be.AppendUint32(b, uint32(coordinator))
	b = append(b, 0)
	be.PutUint32(b[17:], crc32.Checksum(b[crcStart:], castagnoli))
	return b
}

// controlOf reads from a whole batch what it means to a transaction, and the
// epoch of the coordinator that wrote it.
func controlOf(h Header, b []byte) (c control, coordinator int32) {
	if h.Attributes&attrControl == 0 {
		return data, -1
	}
	key, value, ok := keyValue(b[HeaderSize:h.Size()])
	if !ok || len(key) < 4 || h.ProducerID < 0 {
		return unknown, -1
	}
	coordinator = -1
	if len(value) >= 6 {
		coordinator = int32(binary.BigEndian.Uint32(value[2:]))
	}
	switch c := control(binary.BigEndian.Uint16(key[2:])); c {
	case abortMarker, commitMark:
		return c, coordinator
	}
	return unknown, -1
}

// keyValue returns key and value of the first of some uncompressed records.
func keyValue(b []byte) (key, value []byte, ok bool) {
	n, w := binary.Varint(b)
	if w <= 0 || n < 1 || n > int64(len(b)-w) {
		return nil, nil, false
	}
	b = b[w+1 : w+int(n)]
	for range 2 { // timestamp and offset deltas
		if _, w = binary.Varint(b); w <= 0 {
			return nil, nil, false
		}
		b = b[w:]
	}
	if key, b, ok = field(b); ok {
		value, _, ok = field(b)
	}
	return key, value, ok
}

// field splits a length and so many bytes off b; -1 is null.
func field(b []byte) (v, rest []byte, ok bool) {
	n, w := binary.Varint(b)
	if w <= 0 || n < -1 || n > int64(len(b)-w) {
		return nil, nil, false
	}
	b = b[w:]
	n = max(n, 0)
	return b[:n], b[n:], true
}
