package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

var patchMagic = [4]byte{'W', 'S', 'D', 'T'}

// Patch makes segments of one release out of one older release: where code
// only moved, nearly every byte of a program differs in what it refers to, by
// few and constant amounts. A patch is good for one pair of releases; without
// it, or where it does not fit, the same comes out of the pack.
type Patch struct {
	frames map[int][]byte // by part
	have   []int32        // of each object of the index, its number in Patcher.Have
}

// run is a part of a segment that is like something held.
type run struct {
	from place
	size int
}

// WritePatch writes a patch for the boxes that hold old, whose names must be
// those of objects of the index; pack is that of the index, and contents are
// what both were written from.
func WritePatch(ctx context.Context, out io.Writer, index []byte, pack Pack, old []Source, contents ...Content) error {
	x, err := ReadIndex(index)
	if err != nil {
		return err
	}
	w := patchWriter{index: x, at: map[int]location{}, z: newEncoder(zstd.SpeedBestCompression)}
	p := &Patcher{Index: x, Pack: pack, Have: old, Target: map[string]File{}}
	for i, c := range contents {
		if x.Object(c.Name) == nil {
			return fmt.Errorf("write patch: the index has no object %q", c.Name)
		}
		w.contents = append(w.contents, c)
		p.Target[c.Name] = nothing{}
		off := int64(0)
		for _, n := range x.Object(c.Name).parts {
			w.at[n] = location{i, off}
			off += int64(x.parts[n].size)
		}
	}
	head := append(patchMagic[:], formatVersion)
	digest := digestOf(index)
	if _, err := out.Write(append(head, digest[:]...)); err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	if err := w.write(ctx, out, p); err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	return nil
}

// nothing is a target that holds nothing.
type nothing struct{}

func (nothing) ReadAt([]byte, int64) (int, error)  { return 0, io.EOF }
func (nothing) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

// location is an offset in one of the contents.
type location struct {
	content int
	off     int64
}

type patchWriter struct {
	index    *Index
	contents []Content
	at       map[int]location // of each part
	z        *zstd.Encoder
}

func (w *patchWriter) write(ctx context.Context, out io.Writer, p *Patcher) error {
	plan := &Plan{origin: make([]origin, len(w.index.parts))}
	for _, step := range []func(context.Context, *Plan) error{p.findDone, p.findInPlace, p.findMoved} {
		if err := step(ctx, plan); err != nil {
			return err
		}
	}
	wanted, hashes := p.fine(plan)
	m, err := p.match(ctx, wanted, join(hashes))
	if err != nil {
		return err
	}
	for k, places := range m.places() {
		n := m.parts[k]
		frame, err := w.frame(p, n, runs(places, w.index.grain, w.index.parts[n].size))
		if err != nil {
			return err
		}
		if frame == nil || int64(len(frame)) >= w.index.parts[n].whole.size {
			continue
		}
		b := binary.AppendUvarint(nil, uint64(n))
		b = binary.AppendUvarint(b, uint64(len(frame)))
		if _, err := out.Write(append(b, frame...)); err != nil {
			return err
		}
	}
	return nil
}

// runs divides a segment by what its grains lie beside: one that is held
// nowhere belongs to the run before it, at the beginning to the first.
func runs(places []place, grain, size int) []run {
	first := slices.IndexFunc(places, place.held)
	if first < 0 {
		return nil
	}
	begin := places[first]
	begin.off -= int64(first * grain)
	all := []run{{from: begin}}
	for _, at := range places {
		last := &all[len(all)-1]
		next := place{last.from.source, last.from.off + int64(last.size)}
		if at.held() && at != next {
			all = append(all, run{from: at})
			last = &all[len(all)-1]
		}
		last.size += grain
	}
	all[len(all)-1].size += size - len(places)*grain
	return slices.DeleteFunc(all, func(r run) bool { return r.size == 0 })
}

// frame is a part as runs and its difference from them, compressed; nil if
// that is not to be had.
func (w *patchWriter) frame(p *Patcher, n int, runs []run) ([]byte, error) {
	if runs == nil {
		return nil, nil
	}
	at, size := w.at[n], w.index.parts[n].size
	data := make([]byte, size)
	if err := readAt(w.contents[at.content].Data, data, at.off); err != nil {
		return nil, err
	}
	b := binary.AppendUvarint(nil, uint64(len(runs)))
	done := 0
	for _, r := range runs {
		src := p.Have[r.from.source]
		object := slices.IndexFunc(w.index.Objects, func(o Object) bool { return o.Name == src.Name })
		if object < 0 || r.from.off < 0 || r.from.off+int64(r.size) > src.Size {
			return nil, nil
		}
		b = binary.AppendUvarint(b, uint64(object))
		b = binary.AppendUvarint(b, uint64(r.from.off))
		b = binary.AppendUvarint(b, uint64(r.size))
		held := make([]byte, r.size)
		if err := readAt(src.Content, held, r.from.off); err != nil {
			return nil, err
		}
		for i, h := range held {
			data[done+i] -= h
		}
		done += r.size
	}
	return w.z.EncodeAll(append(b, data...), nil), nil
}

// ReadPatch reads a patch for an index, given as it was read, and for what is
// held. The patch stays in memory.
func ReadPatch(data, index []byte, x *Index, have []Source) (*Patch, error) {
	d := &decoder{data: data}
	head := d.bytes(len(patchMagic) + 1 + digestBytes)
	if d.err == nil && [5]byte(head) != [5]byte(append(patchMagic[:], formatVersion)) {
		d.fail("it is no patch of format %d", formatVersion)
	}
	if want := digestOf(index); d.err == nil && !bytes.Equal(head[5:], want[:]) {
		d.fail("it is for another index")
	}
	p := &Patch{frames: map[int][]byte{}}
	for d.err == nil && len(d.data) > 0 {
		n := int(d.uint("segment", 0, int64(len(x.parts))-1))
		p.frames[n] = d.bytes(int(d.uint("size", 1, 2*limitSegment)))
	}
	if d.err != nil {
		return nil, fmt.Errorf("read patch: %w", d.err)
	}
	for _, o := range x.Objects {
		p.have = append(p.have, int32(slices.IndexFunc(have, func(s Source) bool { return s.Name == o.Name })))
	}
	return p, nil
}

// part makes a part in buf, which has its size.
func (p *Patch) part(z *zstd.Decoder, n int, buf []byte, read func(place, []byte) error) ([]byte, error) {
	plain, err := z.DecodeAll(p.frames[n], nil)
	if err != nil {
		return nil, err
	}
	d := &decoder{data: plain}
	left := buf
	for count := d.uint("runs", 0, int64(len(buf))); count > 0 && d.err == nil; count-- {
		object := d.uint("object", 0, int64(len(p.have))-1)
		off := d.uint("offset", 0, limitObject)
		size := d.uint("size", 0, int64(len(left)))
		if d.err != nil {
			break
		}
		if p.have[object] < 0 {
			return nil, errors.New("what it is made of is not held")
		}
		if err := read(place{p.have[object], off}, left[:size]); err != nil {
			return nil, err
		}
		left = left[size:]
	}
	if d.err == nil && (len(left) != 0 || len(d.data) != len(buf)) {
		d.fail("it is for another segment")
	}
	if d.err != nil {
		return nil, d.err
	}
	for i, diff := range d.data {
		buf[i] += diff
	}
	return buf, nil
}
