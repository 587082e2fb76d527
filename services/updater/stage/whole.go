package stage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/updater/source"
)

const bufSize = 64 << 10

// Whole is a release as two files that hold system and kernel image as they
// are, one after the other. A power cut costs at most syncEvery.
type Whole struct {
	Source    source.Source
	Root, UKI string // names of the files
}

// Fill implements Content.
func (c Whole) Fill(ctx context.Context, j *Job, p *Progress) error {
	root := part{"downloading the system", c.Root, 0, ContentBytes(j.Target), &p.Root}
	uki := part{"downloading the kernel image", c.UKI, j.Slot.kernelAt(), j.UKI.Length, &p.UKIBytes}
	for _, f := range []part{root, uki} {
		if err := f.fill(ctx, c.Source, j, p); err != nil {
			return err
		}
	}
	return nil
}

// part is one file and its place in the slot.
type part struct {
	step, name string
	base, size int64
	done       *int64 // in Progress
}

func (f part) fill(ctx context.Context, src source.Source, j *Job, p *Progress) error {
	if *f.done < 0 || *f.done > f.size {
		*f.done = 0
	}
	j.Step(f.step, *f.done, f.size)
	w := &slotWriter{slot: j.Slot, at: f.base + *f.done, limit: f.base + f.size, synced: func(at int64) error {
		*f.done = at - f.base
		if *f.done < f.size {
			*f.done -= *f.done % layout.VerityBlock
		}
		j.Step(f.step, *f.done, f.size)
		return j.Save(*p)
	}}
	err := copyRange(ctx, w, src, f.name, *f.done, f.size-*f.done)
	if flushErr := w.flush(); flushErr != nil {
		// What the disk holds is not known any more.
		*f.done = 0
		return j.again(p, errors.Join(flushErr, err))
	}
	return err
}

// onlyReader hides what would make io.CopyBuffer pass over its buffer.
type onlyReader struct{ io.Reader }

// copyRange copies length bytes of a file, from offset on. A server that
// knows no ranges is read through.
func copyRange(ctx context.Context, w io.Writer, s source.Source, name string, offset, length int64) error {
	if length == 0 {
		return nil
	}
	r, err := s.Open(ctx, name, offset, length)
	if source.KindOf(err) == source.NoRanges {
		r, err = s.Open(ctx, name, offset, source.Rest)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.CopyBuffer(w, onlyReader{io.LimitReader(r, length)}, make([]byte, bufSize))
	if err == nil && n < length {
		err = fmt.Errorf("%s: read %s: got %d bytes, want %d: %w", s, name, n, length, io.ErrUnexpectedEOF)
	}
	return err
}
