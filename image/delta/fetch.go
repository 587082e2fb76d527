package delta

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// gap is how many bytes are fetched for nothing rather than by a request more:
// about what the headers of a request and its answer take.
const gap = 512

// join makes ranges of extents that are in ascending order.
func join(extents []extent) []extent {
	var all []extent
	for _, e := range extents {
		if last := len(all) - 1; last >= 0 && e.off-all[last].end() <= gap {
			all[last].size = max(all[last].end(), e.end()) - all[last].off
			continue
		}
		all = append(all, e)
	}
	return all
}

func total(extents []extent) (n int64) {
	for _, e := range extents {
		n += e.size
	}
	return n
}

// fetcher reads extents of a pack in ascending order, of ranges that were
// joined beforehand, so that one answer serves many.
type fetcher struct {
	pack   Pack
	ranges []extent // still to be asked for
	body   io.ReadCloser
	at     extent // what is left of the body
	count  *int64 // bytes asked for
}

// read fills buf with what lies at off. An answer that is wrong is a
// *ContentError or matches ErrNoRanges; any other error may pass.
func (f *fetcher) read(ctx context.Context, off int64, buf []byte) error {
	want := extent{off, int64(len(buf))}
	for f.body == nil || off >= f.at.end() {
		f.close()
		if len(f.ranges) == 0 || f.ranges[0].off > off {
			return fmt.Errorf("pack: bytes from %d on were not planned to be fetched", off)
		}
		next := f.ranges[0]
		f.ranges = f.ranges[1:]
		if off >= next.end() {
			continue // nobody came for it
		}
		body, err := f.pack.Range(ctx, next.off, next.size)
		if err != nil {
			return err
		}
		*f.count += next.size
		f.body, f.at = body, next
	}
	if want.end() > f.at.end() || off < f.at.off {
		return fmt.Errorf("pack: bytes %d to %d were not planned to be fetched", off, want.end())
	}
	n, err := io.CopyN(io.Discard, f.body, off-f.at.off)
	for m := 0; err == nil && len(buf) > 0; buf, n = buf[m:], n+int64(m) {
		if m, err = f.body.Read(buf); m == len(buf) {
			err = nil
		}
	}
	f.at = extent{f.at.off + n, f.at.size - n}
	switch {
	case err == io.EOF: // io.ErrUnexpectedEOF is a connection that broke
		return &ContentError{Offset: f.at.off, Reason: "the answer ends there"}
	case err != nil:
		return fmt.Errorf("fetch pack: %w", err)
	}
	return nil
}

func (f *fetcher) close() {
	if f.body != nil {
		f.body.Close()
		f.body = nil
	}
}

// wrong tells an answer that will not get better from one that may.
func wrong(err error) bool {
	var content *ContentError
	return errors.Is(err, ErrNoRanges) || errors.As(err, &content)
}

func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(2*limitSegment))
}

// unpack decompresses the content of an extent into exactly size bytes.
func unpack(z *zstd.Decoder, packed []byte, off int64, buf []byte, size int) ([]byte, error) {
	data, err := z.DecodeAll(packed, buf[:0])
	if err == nil && len(data) != size {
		err = fmt.Errorf("%d bytes, not %d", len(data), size)
	}
	if err != nil {
		return nil, &ContentError{Offset: off, Reason: err.Error()}
	}
	return data, nil
}
