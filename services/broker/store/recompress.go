package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// ErrTooLarge: a batch is longer than the topic allows once it is compressed
// as the topic's configuration says.
var ErrTooLarge = errors.New("record batch is too large")

// codecByName are the values of compression.type that name a codec.
var codecByName = map[string]int16{
	"uncompressed": codecNone, "gzip": codecGzip, "snappy": codecSnappy, "lz4": codecLz4, "zstd": codecZstd,
}

// maxBatch bounds a recompressed batch where the topic does not, in bytes.
const maxBatch = 16 << 20

// recompressor brings batches to one codec. It works outside of the log's
// lock and holds some memory for each batch that is under way.
type recompressor struct {
	codec    int16
	max      int64
	encoders sync.Pool // of encoder
}

// encoder is a compressor that can be used again.
type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// newRecompressor returns nil when batches stay as producers compress them.
func newRecompressor(s Settings) *recompressor {
	codec, ok := codecByName[s.Compression]
	if !ok {
		return nil
	}
	r := &recompressor{codec: codec, max: s.MaxMessageBytes}
	if r.max <= 0 {
		r.max = maxBatch
	}
	return r
}

// batch returns b compressed by the topic's codec: b itself when it is so
// already.
func (r *recompressor) batch(b []byte, h Header) ([]byte, Header, error) {
	from := h.Attributes & attrCodec
	if from == r.codec {
		return b, h, nil
	}
	out := &batchBuffer{max: int(r.max)}
	out.Write(b[:HeaderSize])
	if err := r.records(out, b[HeaderSize:], from, h.Records); err != nil {
		return nil, h, err
	}
	h.Attributes = h.Attributes&^attrCodec | r.codec
	h.Length = int32(out.Len() - prefixSize)
	be, nb := binary.BigEndian, out.Bytes()
	be.PutUint32(nb[8:], uint32(h.Length))
	be.PutUint16(nb[21:], uint16(h.Attributes))
	h.CRC = crc32.Checksum(nb[crcStart:], castagnoli)
	be.PutUint32(nb[17:], h.CRC)
	return nb, h, nil
}

// records decompresses and compresses piece by piece, and counts the records
// on the way.
func (r *recompressor) records(out io.Writer, src []byte, from int16, want int32) error {
	in, err := plain(from, bytes.NewReader(src))
	if err != nil {
		return fmt.Errorf("%w: decompress: %v", ErrCorrupt, err)
	}
	defer in.Close()
	enc := r.encoder(out)
	count, err := eachRecord(io.TeeReader(in, enc), func(recordStart) bool { return false })
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case err != nil:
		return fmt.Errorf("%w: decompress: %v", ErrCorrupt, err)
	case count != int(want):
		return fmt.Errorf("%w: %d records, header says %d", ErrInvalid, count, want)
	}
	if err := enc.Close(); err != nil {
		return err
	}
	r.encoders.Put(enc)
	return nil
}

func (r *recompressor) encoder(out io.Writer) encoder {
	if enc, ok := r.encoders.Get().(encoder); ok {
		enc.Reset(out)
		return enc
	}
	switch r.codec {
	case codecGzip:
		return gzip.NewWriter(out)
	case codecSnappy:
		return &snappyWriter{out: out}
	case codecLz4:
		// Java takes blocks that stand alone only, which is the default.
		w := lz4.NewWriter(out)
		w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1))
		return w
	case codecZstd:
		w, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // options that are constants
		}
		return w
	}
	return &copier{out}
}

// batchBuffer is a buffer that refuses to grow beyond max.
type batchBuffer struct {
	bytes.Buffer
	max int
}

func (b *batchBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.max)
	}
	return b.Buffer.Write(p)
}

// copier is the encoder of codecNone.
type copier struct{ io.Writer }

func (c *copier) Close() error      { return nil }
func (c *copier) Reset(w io.Writer) { c.Writer = w }

// snappyWriter writes the frame that Java clients use: others read it too.
type snappyWriter struct {
	out   io.Writer
	begun bool
	block []byte
}

const xerialBlock = 32 << 10

func (s *snappyWriter) Reset(w io.Writer) { s.out, s.begun, s.block = w, false, s.block[:0] }

func (s *snappyWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		k := min(len(p)-n, xerialBlock-len(s.block))
		s.block = append(s.block, p[n:n+k]...)
		n += k
		if len(s.block) == xerialBlock {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (s *snappyWriter) flush() error {
	var head []byte
	if !s.begun {
		s.begun = true
		head = append(head, xerialMagic...)
		head = append(head, 0, 0, 0, 1, 0, 0, 0, 1) // version, lowest compatible version
	}
	block := s2.EncodeSnappy(nil, s.block)
	s.block = s.block[:0]
	head = binary.BigEndian.AppendUint32(head, uint32(len(block)))
	if _, err := s.out.Write(head); err != nil {
		return err
	}
	_, err := s.out.Write(block)
	return err
}

func (s *snappyWriter) Close() error {
	if len(s.block) == 0 && s.begun {
		return nil
	}
	return s.flush()
}
