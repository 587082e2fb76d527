package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// rewriter writes a compacted segment beside those that it will replace.
type rewriter struct {
	fsys vfs.FS
	ctx  context.Context
	pace Pace
	segment
	*index
	f   vfs.File
	buf []byte
	at  int64 // position of buf in the file
	enc map[int16]*recompressor
}

func newRewriter(ctx context.Context, fsys vfs.FS, seg segment, pace Pace) (*rewriter, error) {
	f, err := fsys.Create(seg.logName() + cleanedExt)
	if err != nil {
		return nil, err
	}
	return &rewriter{
		fsys: fsys, ctx: ctx, pace: pace, segment: seg, index: &index{maxMs: noTimestamp},
		f: f, buf: make([]byte, 0, scanChunk), enc: map[int16]*recompressor{},
	}, nil
}

func (w *rewriter) pos() int64 { return w.at + int64(len(w.buf)) }

// Write appends to the segment.
func (w *rewriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
		k := min(len(p)-n, cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[n:n+k]...)
		n += k
	}
	return len(p), nil
}

func (w *rewriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.pace(w.ctx, int64(len(w.buf))); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.buf, w.at); err != nil {
		return fmt.Errorf("write %s: %w", w.logName()+cleanedExt, err)
	}
	w.at, w.buf = w.pos(), w.buf[:0]
	return nil
}

// put writes what the verdict leaves of a batch.
func (w *rewriter) put(c *cleaner, b *stored, v verdict, left int32) error {
	pos, h := w.pos(), b.Header
	switch v {
	case dropWhole:
		return nil
	case keepWhole:
		if _, err := io.Copy(w, b.whole()); err != nil {
			return err
		}
		w.putAborted(c, b)
	case keepEmpty:
		h.Attributes &^= attrCodec
		h.Records, h.MaxTimestamp = 0, noTimestamp
		h.Length = HeaderSize - prefixSize
		if err := w.header(h); err != nil {
			return err
		}
		if err := w.patch(pos, h, w.sum(h)); err != nil {
			return err
		}
	case keepSome:
		h.Records = left
		if h.Attributes&attrLogAppend == 0 {
			h.MaxTimestamp = c.maxMs
		}
		if err := w.some(c, b, h); err != nil {
			return err
		}
	}
	if h.LastOffset()-w.base > math.MaxInt32 || w.pos() > math.MaxInt32 {
		return fmt.Errorf("compact %s: it would grow too long", w.logName())
	}
	h.Length = int32(w.pos() - pos - prefixSize)
	w.add(h, int32(h.LastOffset()-w.base), pos)
	return nil
}

// putAborted carries over what the transaction index says of an abort marker.
func (w *rewriter) putAborted(c *cleaner, b *stored) {
	if b.Attributes&attrControl == 0 {
		return
	}
	for _, t := range c.aborted[b.ProducerID] {
		if t.LastOffset == b.BaseOffset {
			w.aborted = append(w.aborted, t)
		}
	}
}

// some writes a batch with the records that stay, compressed as it was. The
// records' own bytes do not change: their deltas count from the same header.
func (w *rewriter) some(c *cleaner, b *stored, h Header) error {
	pos := w.pos()
	if err := w.header(h); err != nil {
		return err
	}
	out := &summed{w: w, sum: w.sum(h)}
	codec := h.Attributes & attrCodec
	if w.enc[codec] == nil {
		w.enc[codec] = &recompressor{codec: codec}
	}
	enc := w.enc[codec].encoder(out)
	if err := c.copySome(enc, b); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	w.enc[codec].encoders.Put(enc)
	h.Length = int32(w.pos() - pos - prefixSize)
	return w.patch(pos, h, out.sum)
}

// copySome reads a batch's records again and copies those that stay.
func (c *cleaner) copySome(out io.Writer, b *stored) error {
	if err := c.keys.open(b.Attributes&attrCodec, b.records()); err != nil {
		return err
	}
	br := c.keys.br
	var head [binary.MaxVarintLen64]byte
	for i := range int(b.Records) {
		n, err := binary.ReadVarint(br)
		if err != nil {
			return err
		}
		if !c.stay(i) {
			if err := discard(br, n); err != nil {
				return err
			}
			continue
		}
		if _, err := out.Write(head[:binary.PutVarint(head[:], n)]); err != nil {
			return err
		}
		for n > 0 { // not io.CopyN: it would have lz4 read by itself, which it does once only
			p, err := br.Peek(int(min(n, int64(br.Size()))))
			if err != nil {
				return err
			}
			if _, err := out.Write(p); err != nil {
				return err
			}
			br.Discard(len(p))
			n -= int64(len(p))
		}
	}
	return nil
}

// summed adds what goes through it to a batch's checksum.
type summed struct {
	w   io.Writer
	sum uint32
}

func (s *summed) Write(p []byte) (int, error) {
	s.sum = crc32.Update(s.sum, castagnoli, p)
	return s.w.Write(p)
}

// header writes a header whose length and checksum are filled in by patch. It
// is never cut in two by the buffer.
func (w *rewriter) header(h Header) error {
	if cap(w.buf)-len(w.buf) < HeaderSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	_, err := w.Write(h.encode())
	return err
}

// sum is the checksum of what a header adds to it.
func (w *rewriter) sum(h Header) uint32 { return crc32.Checksum(h.encode()[crcStart:], castagnoli) }

func (w *rewriter) patch(pos int64, h Header, sum uint32) error {
	h.CRC = sum
	if pos >= w.at {
		copy(w.buf[pos-w.at:], h.encode())
		return nil
	}
	_, err := w.f.WriteAt(h.encode(), pos)
	return err
}

// finish makes the new segment's files durable, all but their names.
func (w *rewriter) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.logName()+cleanedExt, err)
	}
	w.size = w.at
	pos, times := w.encode()
	if err := frame.WriteSynced(w.fsys, w.indexName()+cleanedExt, pos); err != nil {
		return err
	}
	if len(w.aborted) > 0 {
		if err := frame.WriteSynced(w.fsys, w.txnIndexName()+cleanedExt, encodeAborted(w.aborted)); err != nil {
			return err
		}
	}
	return frame.WriteSynced(w.fsys, w.timeName()+cleanedExt, times)
}

// drop removes what was written, when it is of no use.
func (w *rewriter) drop() {
	for _, name := range []string{w.logName(), w.indexName(), w.timeName(), w.txnIndexName()} {
		w.fsys.Remove(name + cleanedExt)
	}
}

// encode writes a header as ParseHeader reads it.
func (h Header) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, HeaderSize)
	be.PutUint64(b, uint64(h.BaseOffset))
	be.PutUint32(b[8:], uint32(h.Length))
	be.PutUint32(b[12:], uint32(h.LeaderEpoch))
	b[magicAt] = byte(h.Magic)
	be.PutUint32(b[17:], h.CRC)
	be.PutUint16(b[21:], uint16(h.Attributes))
	be.PutUint32(b[23:], uint32(h.LastOffsetDelta))
	be.PutUint64(b[27:], uint64(h.FirstTimestamp))
	be.PutUint64(b[35:], uint64(h.MaxTimestamp))
	be.PutUint64(b[43:], uint64(h.ProducerID))
	be.PutUint16(b[51:], uint16(h.ProducerEpoch))
	be.PutUint32(b[53:], uint32(h.BaseSequence))
	be.PutUint32(b[57:], uint32(h.Records))
	return b
}
