package server

import (
	"encoding/binary"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// fetchAnswer is a Fetch response whose records are still in their files:
// they go to the socket without being held in memory.
type fetchAnswer struct {
	err    int16
	topics []fetchTopic
	bytes  int64 // of all records
}

type fetchTopic struct {
	name  string
	id    meta.ID
	parts []fetchPart
}

type fetchPart struct {
	num             int32
	err             int16
	hw, start       int64
	records         *store.Slice // nil: none
	log             *store.Log   // to wait on; nil when err is set
	offset, maxSize int64        // as asked
}

// release lets the files go. A nil answer has none.
func (f *fetchAnswer) release() {
	if f == nil {
		return
	}
	for i := range f.topics {
		for j := range f.topics[i].parts {
			p := &f.topics[i].parts[j]
			p.records.Release()
			p.records = nil
		}
	}
}

// fetch writes the response: everything but records into the buffer, records
// from file to socket.
func (w *sender) fetch(r *request, f *fetchAnswer) {
	at := len(w.buf)
	var gaps []gap
	w.buf = appendHeader(w.buf, r)
	w.buf = f.appendTo(w.buf, r.version, func(s *store.Slice, at int) { gaps = append(gaps, gap{s, at}) })
	size := int64(len(w.buf)-at-sizeBytes) + f.bytes
	binary.BigEndian.PutUint32(w.buf[at:], uint32(size))
	if len(gaps) == 0 {
		return
	}
	buf, done := w.buf, 0
	for _, g := range gaps {
		if _, w.err = w.Write(buf[done:g.at]); w.err != nil {
			return
		}
		if w.err = w.sendSlice(g.records); w.err != nil {
			return
		}
		done = g.at
	}
	w.buf = append(buf[:0], buf[done:]...)
}

// gap is where in the buffer records belong.
type gap struct {
	records *store.Slice
	at      int
}

// sendSlice copies records from file to socket, a chunk at a time.
func (w *sender) sendSlice(s *store.Slice) error {
	if ok, err := w.sendfile(s); ok || err != nil {
		return err
	}
	buf := w.c.s.memory.get(int(min(s.Len(), chunk)))
	defer w.c.s.memory.put(buf)
	for off := int64(0); off < s.Len(); {
		part := buf[:min(int64(len(buf)), s.Len()-off)]
		if err := s.ReadAt(part, off); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}

// appendTo encodes Fetch response versions 4 to 16. Records are left out;
// gap is told where they belong.
func (f *fetchAnswer) appendTo(b []byte, version int16, gap func(*store.Slice, int)) []byte {
	be := binary.BigEndian
	compact := version >= 12
	b = be.AppendUint32(b, 0) // throttle
	if version >= 7 {
		b = be.AppendUint16(b, uint16(f.err))
		b = be.AppendUint32(b, 0) // no session
	}
	b = appendLen(b, len(f.topics), compact)
	for i := range f.topics {
		t := &f.topics[i]
		switch {
		case version >= 13:
			b = append(b, t.id[:]...)
		case compact:
			b = append(binary.AppendUvarint(b, uint64(len(t.name)+1)), t.name...)
		default:
			b = append(be.AppendUint16(b, uint16(len(t.name))), t.name...)
		}
		b = appendLen(b, len(t.parts), compact)
		for j := range t.parts {
			b = t.parts[j].appendTo(b, version, gap)
		}
		b = appendNoTags(b, compact)
	}
	return appendNoTags(b, compact)
}

func (p *fetchPart) appendTo(b []byte, version int16, gap func(*store.Slice, int)) []byte {
	be := binary.BigEndian
	compact := version >= 12
	b = be.AppendUint32(b, uint32(p.num))
	b = be.AppendUint16(b, uint16(p.err))
	b = be.AppendUint64(b, uint64(p.hw))
	b = be.AppendUint64(b, uint64(p.hw)) // last stable offset: there are no transactions
	if version >= 5 {
		b = be.AppendUint64(b, uint64(p.start))
	}
	b = appendLen(b, 0, compact) // aborted transactions
	if version >= 11 {
		b = be.AppendUint32(b, 0xffffffff) // no other replica to read from
	}
	n := p.records.Len()
	b = appendLen(b, int(n), compact)
	if n > 0 {
		gap(p.records, len(b))
	}
	return appendNoTags(b, compact)
}

// appendLen appends the length of an array or of bytes.
func appendLen(b []byte, n int, compact bool) []byte {
	if compact {
		return binary.AppendUvarint(b, uint64(n)+1)
	}
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func appendNoTags(b []byte, compact bool) []byte {
	if compact {
		return append(b, 0)
	}
	return b
}
