package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Sizes of the format, docs/formats/spool.md.
const (
	magic      = "WSPL"
	version    = 1
	headerSize = 4 + 1 + 8 + 4    // magic, version, number of the first record, CRC
	headSize   = 4 + 1 + 8 + 4    // the same of the file head
	frameSize  = 4 + 4            // length and CRC of a record
	maxBody    = 4 << 20          // of a record; a claimed length beyond it is damage
	headMagic  = "WSPH"           // of the file head
	nothing    = int32(-1)        // length of a nil key or value
	chunk      = 64 << 10         // that a reader takes at a time
	maxHeaders = math.MaxUint16   // of a record
	castagnoli = crc32.Castagnoli // polynomial of every CRC
)

var table = crc32.MakeTable(castagnoli)

// errDamaged is where a power cut, or a bad disk, has left no whole record.
var errDamaged = errors.New("no whole record")

// Damaged tells what of a Read's errors reading again cannot mend: the rest of
// the segment is lost, and may be skipped. Any other, such as too many open
// files, says nothing about what is on the disk.
func Damaged(err error) bool {
	for _, lost := range []error{errDamaged, io.EOF, fs.ErrNotExist, syscall.EIO} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

func header(first uint64) []byte { return stamp(magic, first) }

func encodeHead(head uint64) []byte { return stamp(headMagic, head) }

func stamp(word string, n uint64) []byte {
	b := append([]byte(word), version)
	b = binary.BigEndian.AppendUint64(b, n)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, table))
}

func decodeHead(b []byte) (uint64, bool) { return readStamp(headMagic, b) }

func readStamp(word string, b []byte) (uint64, bool) {
	if len(b) != headerSize || string(b[:4]) != word || b[4] != version ||
		crc32.Checksum(b[:13], table) != binary.BigEndian.Uint32(b[13:]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[5:]), true
}

// appendRecord writes length, CRC, and the body: time in ms since 1970, topic,
// key, value, headers.
func appendRecord(b []byte, r *kgo.Record) []byte {
	start := len(b)
	b = append(b, make([]byte, frameSize)...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Timestamp.UnixMilli()))
	b = appendBytes(b, []byte(r.Topic))
	b = appendBytes(b, r.Key)
	b = appendBytes(b, r.Value)
	n := min(len(r.Headers), maxHeaders)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	for _, h := range r.Headers[:n] {
		b = appendBytes(b, []byte(h.Key))
		b = appendBytes(b, h.Value)
	}
	body := b[start+frameSize:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, table))
	return b
}

func appendBytes(b, v []byte) []byte {
	if v == nil {
		n := nothing
		return binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// reader reads a segment's records one after the other.
type reader struct {
	f    io.ReaderAt
	off  int64
	buf  []byte // bytes of the file from base on
	base int64
}

// newReader checks the header. With errDamaged it reads all the same: the header
// says only what the name does, and every record has a CRC of its own.
func newReader(f io.ReaderAt, first uint64) (*reader, error) {
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); n < headerSize && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	r := &reader{f: f, off: headerSize}
	if got, ok := readStamp(magic, b); !ok || got != first {
		return r, errDamaged
	}
	return r, nil
}

// next returns a record and how many bytes it has in the file; io.EOF behind
// the last, errDamaged where something is there that is none.
func (r *reader) next() (*kgo.Record, int64, error) {
	frame, err := r.bytes(r.off, frameSize)
	if err != nil {
		return nil, 0, err
	}
	n := binary.BigEndian.Uint32(frame)
	sum := binary.BigEndian.Uint32(frame[4:])
	if n > maxBody {
		return nil, 0, errDamaged
	}
	body, err := r.bytes(r.off+frameSize, int(n))
	if errors.Is(err, io.EOF) {
		return nil, 0, errDamaged
	}
	if err != nil {
		return nil, 0, err
	}
	if crc32.Checksum(body, table) != sum {
		return nil, 0, errDamaged
	}
	rec, err := parseBody(body)
	if err != nil {
		return nil, 0, err
	}
	size := int64(frameSize) + int64(n)
	r.off += size
	return rec, size, nil
}

// bytes returns n bytes of the file from off on; io.EOF when there is none,
// errDamaged when there are fewer. They are good until the next call.
func (r *reader) bytes(off int64, n int) ([]byte, error) {
	if off < r.base || off+int64(n) > r.base+int64(len(r.buf)) {
		want := max(n, chunk)
		if cap(r.buf) < want {
			r.buf = make([]byte, want)
		}
		got, err := r.f.ReadAt(r.buf[:want], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		r.buf, r.base = r.buf[:got], off
	}
	at := int(off - r.base)
	switch have := len(r.buf) - at; {
	case have == 0 && n > 0:
		return nil, io.EOF
	case have < n:
		return nil, errDamaged
	}
	return r.buf[at : at+n], nil
}

// parseBody copies: a record outlives the reader's buffer.
func parseBody(b []byte) (*kgo.Record, error) {
	p := parser{b: b}
	rec := &kgo.Record{Timestamp: time.UnixMilli(int64(p.uint64()))}
	rec.Topic = string(p.bytes())
	rec.Key, rec.Value = p.bytes(), p.bytes()
	for n := p.uint16(); n > 0 && !p.bad; n-- {
		key := string(p.bytes())
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: key, Value: p.bytes()})
	}
	if p.bad || len(p.b) > 0 {
		return nil, fmt.Errorf("%w: its parts do not fit", errDamaged)
	}
	return rec, nil
}

type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	out := p.b[:n]
	p.b = p.b[n:]
	return out
}

func (p *parser) uint16() uint16 { return binary.BigEndian.Uint16(p.take(2)) }
func (p *parser) uint64() uint64 { return binary.BigEndian.Uint64(p.take(8)) }

func (p *parser) bytes() []byte {
	n := int32(binary.BigEndian.Uint32(p.take(4)))
	if n == nothing {
		return nil
	}
	return append([]byte{}, p.take(int(n))...)
}
