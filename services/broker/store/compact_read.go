package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// keyed is what compaction reads of a record.
type keyed struct {
	recordStart
	hasKey    bool
	key       keyHash
	tombstone bool // a key and a null value
}

// keyReader reads records for their keys, in a fixed amount of memory however
// long keys and values are.
type keyReader struct {
	br   *bufio.Reader
	left int64 // bytes of the record at hand
	sum  hash.Hash
	full [sha256.Size]byte
	// Decompressors are dear to make and used again.
	gzip *gzip.Reader
	lz4  *lz4.Reader
	zstd *zstd.Decoder

	snappy snappyReader
}

func newKeyReader() *keyReader {
	return &keyReader{br: bufio.NewReaderSize(nil, 16<<10), sum: sha256.New()}
}

// each calls f for each of a batch's records, of which src is what follows
// the header, until f says stop. Records whose offsets do not rise, or leave
// the batch, make it unreadable: they would replace what is newer.
func (k *keyReader) each(h Header, src io.Reader, f func(i int, rec keyed) (stop bool)) error {
	if err := k.open(h.Attributes&attrCodec, src); err != nil {
		return err
	}
	last := int64(-1)
	for i := range int(h.Records) {
		rec, err := k.record()
		switch {
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		case err == nil && (rec.deltaOffset <= last || rec.deltaOffset > int64(h.LastOffsetDelta)):
			err = errRecord
		}
		last = rec.deltaOffset
		if err != nil {
			return fmt.Errorf("record %d of %d: %w", i, h.Records, err)
		}
		if f(i, rec) {
			return nil
		}
	}
	if _, err := k.br.ReadByte(); err == nil {
		return fmt.Errorf("%w: more than %d records", errRecord, h.Records)
	} else if err != io.EOF {
		return err
	}
	return nil
}

// open begins to read the records in src. What plain says of its bounds is
// true here too.
func (k *keyReader) open(codec int16, src io.Reader) (err error) {
	var r io.Reader
	switch {
	case codec == codecGzip && k.gzip != nil:
		r, err = k.gzip, k.gzip.Reset(src)
	case codec == codecGzip:
		k.gzip, err = gzip.NewReader(src)
		r = k.gzip
	case codec == codecLz4:
		if k.lz4 == nil {
			k.lz4 = lz4.NewReader(nil)
		}
		k.lz4.Reset(src)
		r = k.lz4
	case codec == codecZstd:
		if k.zstd == nil {
			k.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		}
		if err == nil {
			r, err = k.zstd, k.zstd.Reset(src)
		}
	case codec == codecSnappy:
		k.snappy.reset(src)
		r = &k.snappy
	default:
		r, err = plain(codec, src)
	}
	if err != nil {
		return err
	}
	k.br.Reset(&bounded{io.NopCloser(r), maxPlain})
	return nil
}

// record reads one record: length varint, attributes int8, timestamp delta
// varint, offset delta varint, key length varint, key, value length varint,
// and the rest.
func (k *keyReader) record() (rec keyed, err error) {
	if k.left, err = binary.ReadVarint(k.br); err != nil {
		return rec, err
	}
	if _, err = k.ReadByte(); err != nil {
		return rec, err
	}
	if rec.deltaMs, err = binary.ReadVarint(k); err != nil {
		return rec, err
	}
	if rec.deltaOffset, err = binary.ReadVarint(k); err != nil {
		return rec, err
	}
	size, err := binary.ReadVarint(k)
	if err != nil {
		return rec, err
	}
	if rec.hasKey = size >= 0; rec.hasKey {
		if size > k.left {
			return rec, errRecord
		}
		if rec.key, err = k.hash(size); err != nil {
			return rec, err
		}
		k.left -= size
	}
	if size, err = binary.ReadVarint(k); err != nil {
		return rec, err
	}
	rec.tombstone = rec.hasKey && size < 0
	if size > k.left {
		return rec, errRecord
	}
	return rec, discard(k.br, k.left)
}

// ReadByte reads a byte of the record at hand.
func (k *keyReader) ReadByte() (byte, error) {
	if k.left <= 0 {
		return 0, errRecord
	}
	k.left--
	return k.br.ReadByte()
}

func (k *keyReader) hash(n int64) (out keyHash, err error) {
	k.sum.Reset()
	for n > 0 {
		b, err := k.br.Peek(int(min(n, int64(k.br.Size()))))
		if err != nil {
			return out, err
		}
		k.sum.Write(b)
		k.br.Discard(len(b))
		n -= int64(len(b))
	}
	copy(out[:], k.sum.Sum(k.full[:0]))
	return out, nil
}

func discard(br *bufio.Reader, n int64) error {
	for n > 0 {
		k, err := br.Discard(int(min(n, 1<<30)))
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

// source reads a segment's batches one after the other.
type source struct {
	v    *view
	pace Pace
	stop func() bool
	buf  []byte
	at   int64 // position of buf
	cold bool  // read past the page cache, and leave nothing in it
}

// Pace is asked before n bytes are read or written in the background: it
// waits as long as they should take.
type Pace func(ctx context.Context, n int64) error

// stored is one batch of a segment.
type stored struct {
	Header
	pos  int64
	src  *source
	body []byte // nil when it is long: read it from the file
}

// records is what follows the header. It can be asked for again.
func (b *stored) records() io.Reader {
	if b.body != nil {
		return bytes.NewReader(b.body[HeaderSize:])
	}
	return io.NewSectionReader(b.src.v.file, b.pos+HeaderSize, b.Size()-HeaderSize)
}

// whole is the batch as it is.
func (b *stored) whole() io.Reader {
	if b.body != nil {
		return bytes.NewReader(b.body)
	}
	return io.NewSectionReader(b.src.v.file, b.pos, b.Size())
}

// each calls f for every batch that is not in a known damaged range. One
// whose checksum is wrong ends it with a *CorruptError.
func (s *source) each(ctx context.Context, f func(*stored) error) error {
	if s.buf == nil {
		s.buf = make([]byte, 0, scanChunk)
	}
	s.at, s.buf = 0, s.buf[:0]
	offset := s.v.seg.base
	for pos := skip(s.v.bad, 0); pos < s.v.limit; pos = skip(s.v.bad, pos) {
		if s.stop() {
			return ErrClosed
		}
		b, err := s.batch(ctx, pos)
		if err != nil {
			return err
		}
		if b == nil {
			return &CorruptError{File: s.v.seg.logName(), Pos: pos, Offset: offset, Err: errTorn}
		}
		if err := f(b); err != nil {
			return err
		}
		pos, offset = pos+b.Size(), b.LastOffset()+1
	}
	return nil
}

var errTorn = fmt.Errorf("%w: not a whole batch", ErrCorrupt)

// batch reads the batch at pos; nil when it is not whole.
func (s *source) batch(ctx context.Context, pos int64) (*stored, error) {
	head, err := s.bytes(ctx, pos, HeaderSize)
	if err != nil || len(head) < HeaderSize {
		return nil, err
	}
	h, err := ParseHeader(head)
	if err != nil || h.Size() > maxStored || pos+h.Size() > s.v.limit {
		return nil, nil
	}
	b := &stored{Header: h, pos: pos, src: s}
	if h.Size() > scanChunk {
		if err := s.pace(ctx, h.Size()); err != nil {
			return nil, err
		}
		return checked(b, verify(s.v.file, s.v.seg.logName(), pos, h))
	}
	if b.body, err = s.bytes(ctx, pos, h.Size()); err != nil {
		return nil, err
	}
	_, err = checkStored(b.body)
	return checked(b, err)
}

func checked(b *stored, err error) (*stored, error) {
	if err != nil {
		return nil, nil
	}
	return b, nil
}

// bytes returns n bytes, at most scanChunk, from pos on; fewer at the
// segment's end. They are valid until the next call.
func (s *source) bytes(ctx context.Context, pos, n int64) ([]byte, error) {
	n = min(n, s.v.limit-pos)
	if off := pos - s.at; off >= 0 && off+n <= int64(len(s.buf)) {
		return s.buf[off : off+n], nil
	}
	size := min(int64(cap(s.buf)), s.v.limit-pos)
	if err := s.pace(ctx, size); err != nil {
		return nil, err
	}
	if s.cold {
		dropCache(s.v.file, s.at, int64(len(s.buf)))
		dropCache(s.v.file, pos, size)
	}
	s.at, s.buf = pos, s.buf[:size]
	k := readTolerant(s.v.file, s.buf, pos)
	s.buf = s.buf[:k]
	return s.buf[:min(n, int64(k))], nil
}
