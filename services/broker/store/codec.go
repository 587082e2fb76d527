package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codecs, numbered as in a batch's attributes.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLz4
	codecZstd
)

// Bounds of what a compressed batch may ask for. A batch is at most 16 MiB,
// but may claim to hold thousands of times as much.
const (
	maxPlain  = 128 << 20 // of all records, read piece by piece
	maxWindow = 8 << 20   // of zstd, held in memory; level 19 asks for that much
	maxBlock  = 32 << 20  // of snappy, held in memory
	// snappyRatio is more than snappy ever gains: 64 bytes by a copy of 3.
	snappyRatio = 22
)

var errTooMuch = errors.New("decompresses to more than is allowed")

// plain reads the records of a batch, of which src is what follows the
// header. Close gives its memory back.
func plain(codec int16, src io.Reader) (io.ReadCloser, error) {
	var r io.ReadCloser
	switch codec {
	case codecNone:
		return io.NopCloser(src), nil
	case codecGzip:
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, err
		}
		r = z
	case codecSnappy:
		s := snappyReaders.Get().(*snappyReader)
		s.reset(src)
		r = s
	case codecLz4:
		r = io.NopCloser(lz4.NewReader(src))
	case codecZstd:
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		r = z.IOReadCloser()
	default:
		return nil, fmt.Errorf("%w: %d", ErrCodec, codec)
	}
	return &bounded{r, maxPlain}, nil
}

// bounded fails, instead of ending, after n bytes.
type bounded struct {
	io.ReadCloser
	n int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.n <= 0 {
		return 0, errTooMuch
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.n)])
	b.n -= int64(n)
	return n, err
}

// xerialMagic begins snappy data as Java clients write it: the magic and two
// int32 of versions, then blocks with an int32 length. Others send one block,
// bare.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

type snappyReader struct {
	src    io.Reader
	framed bool
	begun  bool
	block  []byte // decoded, to be used again
	rest   []byte // of block, not yet read
}

// snappyReaders are kept between batches: a block may take megabytes, which
// would be garbage after each.
var snappyReaders = sync.Pool{New: func() any { return new(snappyReader) }}

func (s *snappyReader) reset(src io.Reader) {
	s.src, s.framed, s.begun, s.rest = src, false, false, nil
}

// Close must be the last call.
func (s *snappyReader) Close() error {
	s.reset(nil)
	snappyReaders.Put(s)
	return nil
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// next decodes the next block.
func (s *snappyReader) next() error {
	var block []byte
	var err error
	switch {
	case !s.begun:
		s.begun = true
		head := make([]byte, xerialHeader)
		n, err := io.ReadFull(s.src, head)
		if err == nil && bytes.HasPrefix(head, xerialMagic) {
			s.framed = true
			return nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if block, err = io.ReadAll(io.MultiReader(bytes.NewReader(head[:n]), io.LimitReader(s.src, maxBlock))); err != nil {
			return err
		}
	case s.framed:
		if block, err = readBlock(s.src); err != nil {
			return err
		}
	default:
		return io.EOF
	}
	// The length may lie, and is made before it is found out.
	if n, err := s2.DecodedLen(block); err != nil || n > maxBlock || n > snappyRatio*(len(block)+1) {
		return cmpErr(err, errTooMuch)
	}
	out, err := s2.Decode(s.block[:cap(s.block)], block)
	if err == nil {
		s.block, s.rest = out, out
	}
	return err
}

func readBlock(src io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(src, size[:]); err != nil {
		return nil, err // io.EOF after the last block
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxBlock {
		return nil, errTooMuch
	}
	// Not make(n): the length may lie.
	b, err := io.ReadAll(io.LimitReader(src, int64(n)))
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// recordStart is what is read of a record: the deltas to its batch's header.
type recordStart struct{ deltaMs, deltaOffset int64 }

// eachRecord reads records until the end or until f says stop. It returns how
// many there were.
func eachRecord(r io.Reader, f func(recordStart) (stop bool)) (int, error) {
	br := bufio.NewReaderSize(r, 16<<10)
	for count := 0; ; count++ {
		switch _, err := br.Peek(1); err {
		case nil:
		case io.EOF:
			return count, nil
		default: // is told once only
			return count, err
		}
		rec, err := readRecord(br)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return count, err
		}
		if f(rec) {
			return count + 1, nil
		}
	}
}

var errRecord = errors.New("record does not fit")

// readRecord reads a record's beginning (length varint, attributes int8,
// timestamp delta varint, offset delta varint) and skips the rest.
func readRecord(br *bufio.Reader) (rec recordStart, err error) {
	n, err := binary.ReadVarint(br)
	if err != nil {
		return rec, err
	}
	body := io.LimitedReader{R: br, N: n}
	in := limitedBytes{br, &body.N}
	if n < 1 {
		return rec, errRecord
	}
	if _, err = in.ReadByte(); err != nil {
		return rec, err
	}
	if rec.deltaMs, err = binary.ReadVarint(in); err != nil {
		return rec, err
	}
	if rec.deltaOffset, err = binary.ReadVarint(in); err != nil {
		return rec, err
	}
	skipped, err := io.Copy(io.Discard, &body)
	if err == nil && body.N > 0 {
		return rec, fmt.Errorf("%w: %d bytes missing after %d", errRecord, body.N, skipped)
	}
	return rec, err
}

// limitedBytes reads single bytes, at most n.
type limitedBytes struct {
	br *bufio.Reader
	n  *int64
}

func (l limitedBytes) ReadByte() (byte, error) {
	if *l.n <= 0 {
		return 0, errRecord
	}
	*l.n--
	return l.br.ReadByte()
}
