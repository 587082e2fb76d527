package server

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/store"
)

// fetchAnswer is a Fetch response; see streamed.
type fetchAnswer struct {
	err     int16
	session int32
	// throttle is how long the client is asked to wait, in ms.
	throttle int32
	parts    []fetchPart
	bytes    int64 // of all records
	// broker and port are told to a client whose leader epoch is old (KIP-951).
	broker string
	port   int32
}

type fetchPart struct {
	topic   *wantedTopic
	num     int32
	err     int16
	leader  int32 // leader epoch, for a client that has an old one; else 0
	hw      int64
	stable  int64
	start   int64
	records *store.Slice // nil: none
	aborted []store.AbortedTxn
}

func (p *fetchPart) bounds() bounds { return bounds{p.start, p.stable, p.hw} }

// fail makes p say what went wrong, and nothing else.
func (p *fetchPart) fail(w *wanted, err error) {
	p.release()
	*p = fetchPart{topic: p.topic, num: p.num, err: code(err), hw: -1, stable: -1, start: -1}
	if p.err == kerr.FencedLeaderEpoch.Code {
		p.leader = w.log.Epoch()
	}
}

// cutZstd ends p's records before the first batch that is compressed by zstd,
// for a client that cannot be expected to know it.
func (p *fetchPart) cutZstd() error {
	first := int64(-1)
	err := p.records.Batches(func(off int64, h store.Header) bool {
		if h.Attributes&7 == zstdCodec {
			first = off
		}
		return first < 0
	})
	switch {
	case err != nil:
		return err
	case first == 0:
		return kerr.UnsupportedCompressionType
	case first > 0:
		p.records.Cut(first)
	}
	return nil
}

func (p *fetchPart) release() {
	p.records.Release()
	p.records = nil
}

func (f *fetchAnswer) recordBytes() int64 { return f.bytes }

func (f *fetchAnswer) setThrottle(ms int32) { f.throttle = ms }

func (f *fetchAnswer) release() {
	for i := range f.parts {
		f.parts[i].release()
	}
}

// fetch writes the response: everything but records into the buffer, records
// from file to socket.
func (w *sender) fetch(r *request, f streamed) {
	at := len(w.buf)
	var gaps []gap
	buf := appendHeader(w.buf, r)
	buf = f.appendTo(buf, r.version, func(s *store.Slice, at int) { gaps = append(gaps, gap{s, at}) })
	size := int64(len(buf)-at-sizeBytes) + f.recordBytes()
	binary.BigEndian.PutUint32(buf[at:], uint32(size))
	done := 0
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

// copyChunk is how much is copied at a time where sendfile cannot be used, as
// under TLS, whose records are as long. A slow client holds that much.
const copyChunk = 16 << 10

// sendSlice brings records from file to socket.
func (w *sender) sendSlice(s *store.Slice) error {
	if ok, err := w.sendfile(s); ok || err != nil {
		return err
	}
	buf := w.c.s.memory.get(int(min(s.Len(), copyChunk)))
	defer w.c.s.memory.put(buf)
	for off := int64(0); off < s.Len(); {
		part := buf[:min(int64(len(buf)), s.Len()-off)]
		w.c.s.reads.begin()
		err := s.ReadAt(part, off)
		w.c.s.reads.end()
		if err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}

// appendTo encodes Fetch response versions 4 to 18. Records are left out;
// gap is told where they belong.
func (f *fetchAnswer) appendTo(b []byte, version int16, gap func(*store.Slice, int)) []byte {
	be := binary.BigEndian
	compact := version >= 12
	b = be.AppendUint32(b, uint32(f.throttle))
	if version >= 7 {
		b = be.AppendUint16(b, uint16(f.err))
		b = be.AppendUint32(b, uint32(f.session))
	}
	b = appendLen(b, f.topics(), compact)
	for rest := f.parts; len(rest) > 0; {
		t, n := rest[0].topic, sameTopic(rest)
		switch {
		case version >= 13:
			b = append(b, t.id[:]...)
		case compact:
			b = append(binary.AppendUvarint(b, uint64(len(t.name)+1)), t.name...)
		default:
			b = append(be.AppendUint16(b, uint16(len(t.name))), t.name...)
		}
		b = appendLen(b, n, compact)
		for i := range n {
			b = rest[i].appendTo(b, version, gap)
		}
		b = appendNoTags(b, compact)
		rest = rest[n:]
	}
	if version < 16 || f.broker == "" {
		return appendNoTags(b, compact)
	}
	return f.appendBroker(b)
}

// topics is how many runs of partitions of one topic there are.
func (f *fetchAnswer) topics() (n int) {
	for rest := f.parts; len(rest) > 0; rest = rest[sameTopic(rest):] {
		n++
	}
	return n
}

// sameTopic is how many of the first partitions are of one topic.
func sameTopic(parts []fetchPart) int {
	n := 1
	for n < len(parts) && parts[n].topic == parts[0].topic {
		n++
	}
	return n
}

// appendBroker appends the response's tags: tag 0, an array of one node.
func (f *fetchAnswer) appendBroker(b []byte) []byte {
	be := binary.BigEndian
	node := be.AppendUint32([]byte{1 + 1}, NodeID)
	node = append(binary.AppendUvarint(node, uint64(len(f.broker)+1)), f.broker...)
	node = be.AppendUint32(node, uint32(f.port))
	node = append(node, 0, 0) // no rack, no tags
	b = append(b, 1, 0)
	return append(binary.AppendUvarint(b, uint64(len(node))), node...)
}

func (p *fetchPart) appendTo(b []byte, version int16, gap func(*store.Slice, int)) []byte {
	be := binary.BigEndian
	compact := version >= 12
	b = be.AppendUint32(b, uint32(p.num))
	b = be.AppendUint16(b, uint16(p.err))
	b = be.AppendUint64(b, uint64(p.hw))
	b = be.AppendUint64(b, uint64(p.stable))
	if version >= 5 {
		b = be.AppendUint64(b, uint64(p.start))
	}
	b = appendLen(b, len(p.aborted), compact)
	for _, t := range p.aborted {
		b = be.AppendUint64(b, uint64(t.ProducerID))
		b = be.AppendUint64(b, uint64(t.FirstOffset))
		b = appendNoTags(b, compact)
	}
	if version >= 11 {
		b = be.AppendUint32(b, 0xffffffff) // no other replica to read from
	}
	n := p.records.Len()
	b = appendLen(b, int(n), compact)
	if n > 0 {
		gap(p.records, len(b))
	}
	if !compact || p.leader == 0 {
		return appendNoTags(b, compact)
	}
	b = append(b, 1, 1, 9) // one tag: number 1, the leader, of 9 bytes
	b = be.AppendUint32(b, NodeID)
	b = be.AppendUint32(b, uint32(p.leader))
	return append(b, 0)
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
