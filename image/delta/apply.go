package delta

import (
	"context"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Apply writes what the targets do not hold yet, in order, each segment only
// after its digest was right. done and size are bytes of the objects. A range
// that is answered wrongly makes it fetch the whole pack; if that is wrong too,
// or the targets are, the error is a *ContentError. Any other error may pass:
// plan and apply again.
func (p *Patcher) Apply(ctx context.Context, plan *Plan, progress func(done, size int64)) error {
	z, err := newDecoder()
	if err != nil {
		return fmt.Errorf("apply delta: %v", err)
	}
	defer z.Close()
	if progress == nil {
		progress = func(done, size int64) {}
	}
	a := &applier{Patcher: p, plan: plan, z: z, progress: progress, written: make([]place, len(p.Index.parts))}
	for i := range a.written {
		a.written[i] = nowhere
	}
	for _, o := range p.Index.Objects {
		a.size += o.Size
	}
	if !plan.Whole {
		err := a.run(ctx, a.planned)
		if !wrong(err) {
			return err
		}
		p.log().Warn("a range of the pack is wrong, all of it is fetched", "error", err)
		a.done, plan.Whole = 0, true
	}
	return a.run(ctx, a.sequential)
}

type applier struct {
	*Patcher
	plan     *Plan
	z        *zstd.Decoder
	progress func(done, size int64)
	size     int64
	done     int64

	written       []place // of each part, where it lies in a target
	whole, pieces fetcher
	packed        []byte
	buf           [limitSegment]byte
}

// run writes every segment that is not done; get makes the content of a part
// that no target holds.
func (a *applier) run(ctx context.Context, get func(context.Context, int) ([]byte, error)) error {
	whole, pieces := a.extents(a.plan)
	if a.plan.Whole {
		whole, pieces = []extent{{0, a.Index.Full()}}, nil
	}
	a.whole = fetcher{pack: a.Pack, ranges: whole, count: &a.fetched}
	a.pieces = fetcher{pack: a.Pack, ranges: pieces, count: &a.fetched}
	defer a.whole.close()
	defer a.pieces.close()
	for i, o := range a.Index.Objects {
		off := int64(0)
		for j, n := range o.parts {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := a.segment(ctx, i, j, n, off, get); err != nil {
				return fmt.Errorf("%s, byte %d: %w", o.Name, off, err)
			}
			off += int64(a.Index.parts[n].size)
			a.done += int64(a.Index.parts[n].size)
			a.progress(a.done, a.size)
		}
	}
	return nil
}

func (a *applier) segment(ctx context.Context, object, j, n int, off int64, get func(context.Context, int) ([]byte, error)) error {
	at := targetPlace(object, off)
	if a.plan.done[object][j] {
		a.written[n] = at
		return nil
	}
	data, err := a.held(n)
	if err == nil && data == nil {
		data, err = get(ctx, n)
	}
	if err != nil {
		return err
	}
	if _, err := a.Target[a.Index.Objects[object].Name].WriteAt(data, off); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	a.plan.done[object][j] = true
	a.written[n] = at
	return nil
}

// held returns a part that needs no fetching, nil if it does, or if what was
// there when the plan was made is not there any more.
func (a *applier) held(n int) ([]byte, error) {
	x, o := &a.Index.parts[n], &a.plan.origin[n]
	if x.zero {
		clear(a.buf[:x.size])
		return a.buf[:x.size], nil
	}
	for _, at := range []place{a.written[n], o.at} {
		if !at.held() || at == o.at && o.from != copied {
			continue
		}
		if err := a.readPlace(at, a.buf[:x.size]); err != nil {
			return nil, err
		}
		if x.is(a.buf[:x.size]) {
			return a.buf[:x.size], nil
		}
	}
	return nil, nil
}

func (a *applier) readPlace(at place, buf []byte) error {
	if at.source >= 0 {
		src := a.Have[at.source]
		if err := readAt(src.Content, buf, at.off); err != nil {
			return fmt.Errorf("read what is held of %s: %w", src.Name, err)
		}
		return nil
	}
	name := a.Index.Objects[-1-at.source].Name
	if err := readAt(a.Target[name], buf, at.off); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// planned makes a part as the plan says, or fetches it whole where that was
// not so.
func (a *applier) planned(ctx context.Context, n int) ([]byte, error) {
	x, o := &a.Index.parts[n], &a.plan.origin[n]
	switch o.from {
	case fetched:
		return a.fetch(ctx, &a.whole, x)
	case pieced:
		if data, err := a.join(ctx, x, o); err != nil || x.is(data) {
			return data, err
		}
	case patched:
		if data, err := a.plan.patch.part(a.z, n, a.buf[:x.size], a.readPlace); err == nil && x.is(data) {
			return data, nil
		}
	}
	a.log().Info("a segment is not what was held, it is fetched whole", "segment", n)
	alone := fetcher{pack: a.Pack, ranges: []extent{x.whole}, count: &a.fetched}
	defer alone.close()
	return a.fetch(ctx, &alone, x)
}

// sequential reads the pack from its start to the part, of which those before
// are passed over.
func (a *applier) sequential(ctx context.Context, n int) ([]byte, error) {
	return a.fetch(ctx, &a.whole, &a.Index.parts[n])
}

func (a *applier) fetch(ctx context.Context, f *fetcher, x *part) ([]byte, error) {
	if err := a.read(ctx, f, x.whole); err != nil {
		return nil, err
	}
	data, err := unpack(a.z, a.packed, x.whole.off, a.buf[:], x.size)
	if err == nil && !x.is(data) {
		err = &ContentError{Offset: x.whole.off, Reason: "the digest is another"}
	}
	return data, err
}

// read fills packed with an extent.
func (a *applier) read(ctx context.Context, f *fetcher, e extent) error {
	if int64(cap(a.packed)) < e.size {
		a.packed = make([]byte, e.size)
	}
	a.packed = a.packed[:e.size]
	return f.read(ctx, e.off, a.packed)
}

// join puts a part together from grains that are held and pieces that are
// fetched.
func (a *applier) join(ctx context.Context, x *part, o *origin) ([]byte, error) {
	out := make([]byte, x.size)
	grain := a.Index.grain
	for i, at := range o.grains {
		if at.held() {
			if err := a.readPlace(at, out[i*grain:][:grain]); err != nil {
				return nil, err
			}
		}
	}
	for _, piece := range o.pieces(a.Index, x) {
		if err := a.read(ctx, &a.pieces, piece.extent); err != nil {
			return nil, err
		}
		data, err := unpack(a.z, a.packed, piece.off, a.buf[:], piece.to-piece.from)
		if err != nil {
			return nil, err
		}
		copy(out[piece.from:], data)
	}
	return out, nil
}
