package store

import (
	"encoding/binary"
	"fmt"
)

// recordAt finds the first record of a batch that is as late as ms. A
// compressed batch is not opened: its first record stands for all.
func recordAt(v *view, pos int64, h Header, ms int64) (TimeOffset, bool, error) {
	whole := TimeOffset{Offset: h.BaseOffset, Ms: h.FirstTimestamp, Epoch: h.LeaderEpoch}
	if h.Attributes&attrCodec != 0 || h.FirstTimestamp >= ms {
		return whole, true, nil
	}
	b := make([]byte, h.Size())
	if n, err := v.file.ReadAt(b, pos); int64(n) < h.Size() {
		return TimeOffset{}, false, fmt.Errorf("read %s at %d: %v", v.seg.logName(), pos, err)
	}
	for b = b[HeaderSize:]; len(b) > 0; {
		rec, rest, ok := nextRecord(b)
		if !ok {
			break
		}
		if at := h.FirstTimestamp + rec.deltaMs; at >= ms {
			return TimeOffset{Offset: h.BaseOffset + rec.deltaOffset, Ms: at, Epoch: h.LeaderEpoch}, true, nil
		}
		b = rest
	}
	return whole, true, nil
}

type recordStart struct{ deltaMs, deltaOffset int64 }

// nextRecord reads the beginning of an uncompressed record: length varint,
// attributes int8, timestamp delta varint, offset delta varint.
func nextRecord(b []byte) (rec recordStart, rest []byte, ok bool) {
	n, w := binary.Varint(b)
	if w <= 0 || n < 1 || n > int64(len(b)-w) {
		return rec, nil, false
	}
	body := b[w+1 : w+int(n)]
	var w1, w2 int
	rec.deltaMs, w1 = binary.Varint(body)
	if w1 <= 0 {
		return rec, nil, false
	}
	rec.deltaOffset, w2 = binary.Varint(body[w1:])
	return rec, b[w+int(n):], w2 > 0
}
