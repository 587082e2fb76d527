package stage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/trust"
)

// maxIndex is the longest index that is read, in bytes; one of a release of
// 200 MB has some 200 kB.
const maxIndex = 4 << 20

// Delta is a release as index and pack of image/delta: what the box holds
// already, in Have or in the slot from an earlier try, is not fetched.
type Delta struct {
	Source source.Source
	Index  trust.File
	Pack   string      // name of the file
	Patch  *trust.File // from the release that runs, if there is one
	Have   []delta.Source
}

// Fill implements Content.
func (c Delta) Fill(ctx context.Context, j *Job, p *Progress) error {
	size := ContentBytes(j.Target)
	if p.Root == size && p.UKIBytes == j.UKI.Length {
		return nil // and on stable storage: what is left is to verify it
	}
	index, err := c.index(ctx, j)
	if err != nil {
		return err
	}
	root := &window{slot: j.Slot, size: size}
	uki := &window{slot: j.Slot, base: j.Slot.kernelAt(), size: j.UKI.Length}
	patch := &delta.Patcher{Index: index, Pack: pack{c.Source, c.Pack}, Have: c.Have, Patch: c.patch(), Log: j.Log,
		Target: map[string]delta.File{delta.Root: root, delta.UKI: uki}}
	j.Step("comparing with what is here", 0, 0)
	plan, err := patch.Plan(ctx)
	if err == nil {
		j.Log.Info("a release is fetched", "version", j.Target.Version, "bytes", plan.Fetch+plan.Spent, "requests", plan.Requests, "whole", plan.Whole)
		err = patch.Apply(ctx, plan, func(done, total int64) { j.Step("downloading", done, total) })
	}
	if settleErr := j.Slot.settle(); settleErr != nil {
		return errors.Join(settleErr, err)
	}
	var wrong *delta.ContentError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%w: %s: %v", ErrContent, c.Source, err)
	}
	if err != nil {
		return err
	}
	p.Root, p.UKIBytes = size, j.UKI.Length
	return j.Save(*p)
}

// patch offers the patch; what comes is checked against the signed metadata,
// because making segments with another one takes time.
func (c Delta) patch() *delta.PatchFile {
	if c.Patch == nil {
		return nil
	}
	return &delta.PatchFile{Size: c.Patch.Length, Read: func(ctx context.Context) ([]byte, error) { return c.file(ctx, *c.Patch) }}
}

// file fetches a file and checks it against the signed metadata.
func (c Delta) file(ctx context.Context, f trust.File) ([]byte, error) {
	data, err := source.ReadAll(ctx, c.Source, f.Name, f.Length)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != f.Length || sha256.Sum256(data) != f.SHA256 {
		return nil, fmt.Errorf("%w: %s: %s has another hash", ErrContent, c.Source, path.Base(f.Name))
	}
	return data, nil
}

// index fetches the index and checks it against the signed metadata.
func (c Delta) index(ctx context.Context, j *Job) (*delta.Index, error) {
	if c.Index.Length > maxIndex {
		return nil, fmt.Errorf("release %s has an index of %d bytes, the most is %d", j.Target.Version, c.Index.Length, maxIndex)
	}
	data, err := c.file(ctx, c.Index)
	if err != nil {
		return nil, err
	}
	index, err := delta.ReadIndex(data)
	if err != nil {
		return nil, err
	}
	for name, want := range map[string]int64{delta.Root: ContentBytes(j.Target), delta.UKI: j.UKI.Length} {
		if o := index.Object(name); o == nil || o.Size != want || len(index.Objects) != 2 {
			return nil, fmt.Errorf("release %s contradicts itself: its index does not describe a %s of %d bytes", j.Target.Version, name, want)
		}
	}
	return index, nil
}

// pack is a delta.Pack that lies in a source.
type pack struct {
	source.Source
	name string
}

// Range implements delta.Pack.
func (p pack) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := p.Open(ctx, p.name, off, n)
	if source.KindOf(err) != source.NoRanges {
		return r, err
	}
	if off > 0 {
		return nil, fmt.Errorf("%w: %v", delta.ErrNoRanges, err)
	}
	return p.Open(ctx, p.name, 0, source.Rest)
}

// window is a part of the slot that is written in any order. It syncs now and
// then, so that what waits for the disk is bounded.
type window struct {
	slot       Slot
	base, size int64

	mu     sync.Mutex
	unsync int64
}

// ReadAt implements io.ReaderAt.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(w.slot, w.base, w.size).ReadAt(p, off)
}

// WriteAt implements io.WriterAt.
func (w *window) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > w.size {
		return 0, fmt.Errorf("write beyond the %d bytes of the release: %d at %d", w.size, len(p), off)
	}
	n, err := w.slot.WriteAt(p, w.base+off)
	if err != nil {
		return n, fmt.Errorf("write to the inactive slot: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsync += int64(n); w.unsync >= syncEvery {
		w.unsync = 0
		return n, w.slot.settle()
	}
	return n, nil
}

// Held are the contents of a slot that a release may share with it.
func (s Slot) Held() []delta.Source {
	held := []delta.Source{{Name: delta.Root, Content: s, Size: s.rootSize()}}
	if h, err := s.Header(); err == nil {
		held = append(held, delta.Source{Name: delta.UKI, Content: s.Kernel(h), Size: h.Length})
	}
	return held
}
