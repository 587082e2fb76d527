package server

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/store"
)

// shareAnswer is a ShareFetch response whose records are still in their files.
type shareAnswer struct {
	err      int16
	text     string // about the error
	throttle int32
	lockMs   int32
	parts    []*sharePart
	at       map[share.Partition]*sharePart
	bytes    int64 // of all records
}

type sharePart struct {
	share.Partition
	err, ackErr int16
	records     *store.Slice // nil: none
	ranges      []share.Range
}

// part is a partition's place in the answer.
func (a *shareAnswer) part(key share.Partition) *sharePart {
	p := a.at[key]
	if p == nil {
		if a.at == nil {
			a.at = map[share.Partition]*sharePart{}
		}
		p = &sharePart{Partition: key}
		a.at[key] = p
		a.parts = append(a.parts, p)
	}
	return p
}

// sort brings the partitions of each topic together.
func (a *shareAnswer) sort() {
	slices.SortFunc(a.parts, func(p, q *sharePart) int {
		return cmp.Or(bytes.Compare(p.Topic[:], q.Topic[:]), cmp.Compare(p.Num, q.Num))
	})
}

// fail makes the answer say what went wrong, and nothing else.
func (a *shareAnswer) fail(err error) {
	a.release()
	a.err, a.text, a.parts, a.bytes = code(err), err.Error(), nil, 0
}

func (a *shareAnswer) recordBytes() int64 { return a.bytes }

func (a *shareAnswer) setThrottle(ms int32) { a.throttle = ms }

func (a *shareAnswer) release() {
	for _, p := range a.parts {
		p.records.Release()
		p.records = nil
	}
}

// appendTo encodes ShareFetch response versions 1 and 2.
func (a *shareAnswer) appendTo(b []byte, _ int16, gap func(*store.Slice, int)) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(a.throttle))
	b = be.AppendUint16(b, uint16(a.err))
	b = appendText(b, a.text)
	b = be.AppendUint32(b, uint32(a.lockMs))
	topics := 0
	for i, p := range a.parts {
		if i == 0 || a.parts[i-1].Topic != p.Topic {
			topics++
		}
	}
	b = appendLen(b, topics, true)
	for rest := a.parts; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Topic == rest[0].Topic {
			n++
		}
		b = append(b, rest[0].Topic[:]...)
		b = appendLen(b, n, true)
		for _, p := range rest[:n] {
			b = p.appendTo(b, gap)
		}
		b = append(b, 0)
		rest = rest[n:]
	}
	return append(b, 1, 0) // no other nodes, no tags
}

func (p *sharePart) appendTo(b []byte, gap func(*store.Slice, int)) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, uint32(p.Num))
	b = be.AppendUint16(b, uint16(p.err))
	b = append(b, 0) // no text
	b = be.AppendUint16(b, uint16(p.ackErr))
	b = append(b, 0)
	b = be.AppendUint64(b, 1<<64-1) // no other leader: -1 and -1
	b = append(b, 0)
	n := p.records.Len()
	b = appendLen(b, int(n), true)
	if n > 0 {
		gap(p.records, len(b))
	}
	b = appendLen(b, len(p.ranges), true)
	for _, r := range p.ranges {
		b = be.AppendUint64(b, uint64(r.First))
		b = be.AppendUint64(b, uint64(r.Last))
		b = be.AppendUint16(b, uint16(r.Count))
		b = append(b, 0)
	}
	return append(b, 0)
}

// appendText appends a compact string; "" is null.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(s)+1)), s...)
}
