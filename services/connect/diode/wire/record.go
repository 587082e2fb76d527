package wire

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Record is a Kafka record on its way, with where it came from.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	// Prev is the offset behind the record that the sender took before this
	// one from the same partition: what the receiver misses between is lost.
	// The two differ without loss where a log has gaps.
	Prev    int64
	Time    int64 // ms since 1970
	Key     []byte
	Value   []byte
	Headers []Header
}

// Header of a record.
type Header struct {
	Key   string
	Value []byte
}

// A frame in a block is its length as a uvarint, a byte that says what it is,
// and the rest.
const (
	frameRecord   = 1
	framePosition = 2 // Topic, Partition and Offset only: the sender has taken all before Offset
)

func (r *Record) appendFrame(b []byte, kind byte) []byte {
	body := []byte{kind}
	body = appendBytes(body, []byte(r.Topic))
	body = binary.AppendVarint(body, int64(r.Partition))
	body = binary.AppendVarint(body, r.Offset)
	if kind == frameRecord {
		body = binary.AppendVarint(body, r.Prev)
		body = binary.AppendVarint(body, r.Time)
		body = appendBytes(body, r.Key)
		body = appendBytes(body, r.Value)
		body = binary.AppendUvarint(body, uint64(len(r.Headers)))
		for _, h := range r.Headers {
			body = appendBytes(body, []byte(h.Key))
			body = appendBytes(body, h.Value)
		}
	}
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

// appendBytes writes a length plus one, so that nil and empty differ.
func appendBytes(b, v []byte) []byte {
	if v == nil {
		return binary.AppendUvarint(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(v))+1), v...)
}

var errFrame = errors.New("a frame is not what its length says")

// parseFrame reads a frame's body. Nothing of the result is shared with b.
func parseFrame(b []byte) (kind byte, r Record, err error) {
	if len(b) == 0 {
		return 0, r, errFrame
	}
	p := parser{b: b[1:]}
	r.Topic = string(p.bytes())
	r.Partition = int32(p.varint())
	r.Offset = p.varint()
	if b[0] == frameRecord {
		r.Prev, r.Time = p.varint(), p.varint()
		r.Key, r.Value = p.bytes(), p.bytes()
		for n := p.uvarint(); n > 0 && !p.bad; n-- {
			r.Headers = append(r.Headers, Header{string(p.bytes()), p.bytes()})
		}
	}
	if p.bad || len(p.b) > 0 || !topicName(r.Topic) || r.Offset < 0 || r.Partition < 0 || r.Prev > r.Offset {
		return 0, r, errFrame
	}
	return b[0], r, nil
}

// topicName says whether Kafka has topics of that name.
func topicName(s string) bool {
	return s != "" && len(s) <= 249 && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	})
}

// parser reads until something is missing, then says bad for ever.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) took(n int) bool {
	if n <= 0 || p.bad {
		p.bad = true
		return false
	}
	p.b = p.b[n:]
	return true
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if !p.took(n) {
		return 0
	}
	return v
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if !p.took(n) {
		return 0
	}
	return v
}

func (p *parser) bytes() []byte {
	n := p.uvarint()
	if n == 0 {
		return nil
	}
	if n--; n > uint64(len(p.b)) {
		p.bad = true
		return nil
	}
	v := append([]byte{}, p.b[:n]...)
	p.b = p.b[n:]
	return v
}
