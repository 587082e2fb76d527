package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Content is an object to write a release of.
type Content struct {
	Name string // Root or UKI
	Data io.ReaderAt
	Size int64
}

// Stats says what a pack became.
type Stats struct {
	Segments int
	Bytes    int64 // of all objects
	Full     int64 // of the pack, what a full download reads
	Pack     int64 // of the pack, all
	Index    int64
}

// Write writes the index and the pack of a release. Objects that hold files of
// earlier ones, as a UKI's initramfs does, come last. It holds the largest
// object in memory, and the pack in a temporary file. Equal contents give
// equal bytes.
func Write(ctx context.Context, index, pack io.Writer, contents ...Content) (Stats, error) {
	w, err := newWriter()
	if err != nil {
		return Stats{}, err
	}
	defer w.close()
	for _, c := range contents {
		if err := w.add(ctx, c); err != nil {
			return Stats{}, fmt.Errorf("write delta of %s: %w", c.Name, err)
		}
	}
	if err := w.index.place(); err != nil {
		return Stats{}, fmt.Errorf("write delta: %w", err)
	}
	if err := w.copyPack(pack); err != nil {
		return Stats{}, fmt.Errorf("write pack: %w", err)
	}
	head := w.index.Encode()
	if _, err := index.Write(head); err != nil {
		return Stats{}, fmt.Errorf("write delta index: %w", err)
	}
	s := Stats{Segments: len(w.index.parts), Full: w.index.wholeEnd, Pack: w.index.packEnd, Index: int64(len(head))}
	for _, c := range contents {
		s.Bytes += c.Size
	}
	return s, nil
}

type writer struct {
	index  Index
	number map[digest]int // of parts
	zeros  map[int]int    // of parts, by size
	areas  [3]*os.File    // whole segments, hashes, pieces
	encode sync.Pool      // of *encoders
}

func newWriter() (*writer, error) {
	w := &writer{index: Index{grain: grainSize, piece: pieceSize}, number: map[digest]int{}, zeros: map[int]int{}}
	for i := range w.areas {
		f, err := os.CreateTemp("", "wayside-pack-")
		if err != nil {
			w.close()
			return nil, fmt.Errorf("write pack: %w", err)
		}
		w.areas[i] = f
	}
	w.encode.New = func() any { return newEncoders() }
	return w, nil
}

func (w *writer) close() {
	for _, f := range w.areas {
		if f != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}
}

func (w *writer) add(ctx context.Context, c Content) error {
	data := make([]byte, c.Size)
	if err := readAt(c.Data, data, 0); err != nil {
		return err
	}
	known, err := w.find(ctx, data)
	if err != nil {
		return err
	}
	o := Object{Name: c.Name, Size: c.Size}
	var fresh []span // of the parts from first on
	first := len(w.index.parts)
	for _, s := range cut(data, known) {
		n, isNew := w.part(data[s.off:s.end])
		if isNew {
			fresh = append(fresh, s)
		}
		o.parts = append(o.parts, n)
	}
	w.index.Objects = append(w.index.Objects, o)
	return w.store(ctx, data, first, fresh)
}

// find returns where data holds parts of earlier objects.
func (w *writer) find(ctx context.Context, data []byte) ([]span, error) {
	s := newScanner(w.index.grain)
	byHead := map[int][]int{}
	for n, p := range w.index.parts {
		if !p.zero && p.size >= w.index.grain {
			number := s.add(p.head)
			byHead[number] = append(byHead[number], n)
		}
	}
	var known []span
	at := 0
	tried := make([]uint8, len(w.index.parts))
	src := Source{Content: bytes.NewReader(data), Size: int64(len(data))}
	err := s.scan(ctx, src, func(number int, off int64) error {
		for _, n := range byHead[number] {
			p, begin := &w.index.parts[n], int(off)
			if begin < at || begin+p.size > len(data) || tried[n] >= tries {
				continue
			}
			if digestOf(data[begin:begin+p.size]) == p.digest {
				at = begin + p.size
				known = append(known, span{begin, at})
				break
			}
			tried[n]++
		}
		return nil
	})
	return known, err
}

// part returns the number of the part with that content.
func (w *writer) part(data []byte) (n int, isNew bool) {
	if len(bytes.Trim(data, "\x00")) == 0 {
		n, ok := w.zeros[len(data)]
		if !ok {
			n = len(w.index.parts)
			w.zeros[len(data)] = n
			w.index.parts = append(w.index.parts, part{size: len(data), zero: true})
		}
		return n, !ok
	}
	d := digestOf(data)
	n, ok := w.number[d]
	if !ok {
		n = len(w.index.parts)
		w.number[d] = n
		p := part{size: len(data), digest: d}
		if len(data) >= w.index.grain {
			p.head = newRoller(w.index.grain).weak(data)
		}
		w.index.parts = append(w.index.parts, p)
	}
	return n, !ok
}

// store compresses new parts on all processors and appends them in order.
func (w *writer) store(ctx context.Context, data []byte, first int, fresh []span) error {
	forms := make([]forms, len(fresh))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range fresh {
		if w.index.parts[first+i].zero {
			continue
		}
		g.Go(func() error {
			e := w.encode.Get().(*encoders)
			defer w.encode.Put(e)
			forms[i] = e.forms(data[s.off:s.end], w.index.grain, w.index.piece)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, f := range forms {
		p := &w.index.parts[first+i]
		p.whole.size, p.hashes.size, p.pieces.size = int64(len(f.whole)), int64(len(f.hashes)), int64(len(f.pieces))
		for area, data := range [][]byte{f.whole, f.hashes, f.pieces} {
			if _, err := w.areas[area].Write(data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) copyPack(out io.Writer) error {
	header := [packHeader]byte{packMagic[0], packMagic[1], packMagic[2], packMagic[3], formatVersion}
	if _, err := out.Write(header[:]); err != nil {
		return err
	}
	for _, f := range w.areas {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(out, f); err != nil {
			return err
		}
	}
	return nil
}

// forms are what the pack holds of a part.
type forms struct{ whole, hashes, pieces []byte }

type encoders struct{ whole, piece *zstd.Encoder }

func newEncoders() *encoders {
	return &encoders{whole: newEncoder(zstd.SpeedBestCompression, maxSegment), piece: newEncoder(zstd.SpeedDefault, maxSegment)}
}

func newEncoder(level zstd.EncoderLevel, window int) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(window), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// forms compresses a part. What does not compress has no fine form: it is
// compressed or encrypted already, and no part of it is found in anything else.
func (e *encoders) forms(data []byte, grain, piece int) forms {
	f := forms{whole: e.whole.EncodeAll(data, nil)}
	if len(data) < 2*piece || len(f.whole) > len(data)-len(data)/16 {
		return f
	}
	r := newRoller(grain)
	for at := 0; at+grain <= len(data); at += grain {
		f.hashes = binary.LittleEndian.AppendUint32(f.hashes, r.weak(data[at:]))
	}
	for at := 0; at < len(data); at += piece {
		before := len(f.pieces)
		f.pieces = e.piece.EncodeAll(data[at:min(at+piece, len(data))], f.pieces)
		f.hashes = binary.AppendUvarint(f.hashes, uint64(len(f.pieces)-before))
	}
	return f
}
