package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// frameSize is how many bytes of a patch are compressed together.
const frameSize = limitSegment

// WritePatch writes a patch for the boxes that hold old, whose names must be
// those of objects of the index, in its order; contents are what the index was
// written from. It holds old and the largest content in memory. What does not
// fit into MaxPatch is left to the pack.
func WritePatch(ctx context.Context, out io.Writer, index []byte, old []Source, contents ...Content) error {
	x, err := ReadIndex(index)
	if err != nil {
		return err
	}
	w := &patchWriter{index: x, out: out, tried: make([]bool, len(x.parts)),
		last: -1, z: newEncoder(zstd.SpeedBestCompression, 2*limitSegment)}
	if err := w.write(ctx, old, contents); err != nil {
		return fmt.Errorf("write patch: %w", err)
	}
	return nil
}

type patchWriter struct {
	index   *Index
	out     io.Writer
	size    int // bytes written
	z       *zstd.Encoder
	aligner *aligner
	begins  []int  // of each object, where its older content begins in that of the aligner; last, where it ends
	tried   []bool // of each part

	// The frame that is being filled.
	last  int    // its last part, or -1
	count int    // its parts
	head  []byte // their numbers
	frame []byte
}

func (w *patchWriter) write(ctx context.Context, old []Source, contents []Content) error {
	plan, err := w.missing(ctx, old)
	if err != nil {
		return err
	}
	if err := w.readOld(old); err != nil {
		return err
	}
	if err := w.put(append(append(patchMagic[:], patchVersion), w.index.sum[:]...)); err != nil {
		return err
	}
	for i, c := range contents {
		if i >= len(w.index.Objects) || c.Name != w.index.Objects[i].Name || c.Size != w.index.Objects[i].Size {
			return fmt.Errorf("the index is not of object %q", c.Name)
		}
		data := make([]byte, c.Size)
		if err := readAt(c.Data, data, 0); err != nil {
			return fmt.Errorf("read %s: %w", c.Name, err)
		}
		if err := w.object(ctx, i, data, plan); err != nil {
			return err
		}
	}
	return w.flush()
}

// missing are the parts that a box with old does not find there as they are.
func (w *patchWriter) missing(ctx context.Context, old []Source) (*Plan, error) {
	p := &Patcher{Index: w.index, Have: old, Target: map[string]File{}}
	for _, o := range w.index.Objects {
		p.Target[o.Name] = nothing{}
	}
	plan := &Plan{origin: make([]origin, len(w.index.parts))}
	for _, step := range []func(context.Context, *Plan) error{p.findDone, p.findInPlace, p.findMoved} {
		if err := step(ctx, plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// nothing is a target that holds nothing.
type nothing struct{}

func (nothing) ReadAt([]byte, int64) (int, error)  { return 0, io.EOF }
func (nothing) WriteAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }

func (w *patchWriter) readOld(old []Source) error {
	var all []byte
	for i, o := range w.index.Objects {
		if i >= len(old) || old[i].Name != o.Name {
			return fmt.Errorf("older content of %q is missing", o.Name)
		}
		w.begins = append(w.begins, len(all))
		all = append(all, make([]byte, old[i].Size)...)
		if err := readAt(old[i].Content, all[w.begins[i]:], 0); err != nil {
			return fmt.Errorf("read the older %s: %w", o.Name, err)
		}
	}
	w.begins = append(w.begins, len(all))
	w.aligner = newAligner(all)
	return nil
}

// object writes what data has of parts that are missing.
func (w *patchWriter) object(ctx context.Context, object int, data []byte, plan *Plan) error {
	parts, off := w.index.Objects[object].parts, 0
	for len(parts) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Parts side by side are aligned together.
		wanted := plan.missing(parts[0])
		n, end := 0, off
		for ; n < len(parts) && plan.missing(parts[n]) == wanted; n++ {
			end += w.index.parts[parts[n]].size
		}
		if wanted {
			runs := w.aligner.align(data[off:end], w.begins[object]+off)
			if err := w.parts(parts[:n], data[off:end], runs); err != nil {
				return err
			}
		}
		parts, off = parts[n:], end
	}
	return nil
}

// parts writes parts that lie side by side and were not written before.
func (w *patchWriter) parts(parts []int, data []byte, runs []run) error {
	for _, n := range parts {
		size := w.index.parts[n].size
		var own []run
		own, runs = take(runs, size)
		if !w.tried[n] {
			if err := w.part(n, data[:size], own); err != nil {
				return err
			}
		}
		data = data[size:]
	}
	return nil
}

// take takes the runs of the first size bytes off runs.
func take(runs []run, size int) (taken, left []run) {
	for size > 0 {
		r := runs[0]
		if r.size > size {
			rest := append([]run{{r.from + size, r.size - size}}, runs[1:]...)
			return append(taken, run{r.from, size}), rest
		}
		taken, runs, size = append(taken, r), runs[1:], size-r.size
	}
	return taken, runs
}

// part appends a part to the frame, unless that saves next to nothing.
func (w *patchWriter) part(n int, data []byte, runs []run) error {
	w.tried[n] = true
	part, like := w.runs(runs)
	part = appendEdits(part, like, data)
	if whole := w.index.parts[n].whole.size; int64(len(w.z.EncodeAll(part, nil))) > whole-whole/8 {
		return nil
	}
	w.head = binary.AppendUvarint(w.head, uint64(n-w.last))
	w.frame = binary.AppendUvarint(w.frame, uint64(len(part)))
	w.frame = append(w.frame, part...)
	w.last = n
	if w.count++; len(w.frame) >= frameSize {
		return w.flush()
	}
	return nil
}

// runs encodes runs, and returns the older content that they lead to.
func (w *patchWriter) runs(runs []run) (b, like []byte) {
	count := 0
	for _, r := range runs {
		for r.size > 0 {
			object, size := w.objectAt(r)
			b = binary.AppendUvarint(b, uint64(object+1))
			if object >= 0 {
				b = binary.AppendUvarint(b, uint64(r.from-w.begins[object]))
				like = append(like, w.aligner.old[r.from:r.from+size]...)
			} else {
				like = append(like, make([]byte, size)...)
			}
			b = binary.AppendUvarint(b, uint64(size))
			count++
			r = run{r.from + size, r.size - size}
		}
	}
	return append(binary.AppendUvarint(nil, uint64(count)), b...), like
}

// objectAt is the object of the older release that a run begins in, and how
// much of the run lies in it; -1 for what lies in none.
func (w *patchWriter) objectAt(r run) (object, size int) {
	last := len(w.begins) - 1
	switch {
	case r.from < 0:
		return -1, min(r.size, -r.from)
	case r.from >= w.begins[last]:
		return -1, r.size
	}
	for object = last - 1; w.begins[object] > r.from; object-- {
	}
	return object, min(r.size, w.begins[object+1]-r.from)
}

func (w *patchWriter) flush() error {
	if w.count == 0 {
		return nil
	}
	packed := w.z.EncodeAll(w.frame, nil)
	b := binary.AppendUvarint(nil, uint64(w.count))
	b = append(b, w.head...)
	b = binary.AppendUvarint(b, uint64(len(packed)))
	w.last, w.count, w.head, w.frame = -1, 0, nil, nil
	return w.put(append(b, packed...))
}

func (w *patchWriter) put(b []byte) error {
	if w.size+len(b) > MaxPatch {
		return nil
	}
	w.size += len(b)
	_, err := w.out.Write(b)
	return err
}
