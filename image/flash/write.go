package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/waysideos/wayside/image/layout"
)

// Disk is what is written. Sync returns when all writes before it are on
// stable storage; what is read after it comes from there, not from a cache.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// State is what a disk holds when Job.Run is over, in words for the person
// whose disk it is.
type State string

const (
	Untouched  State = "nothing was written to it"
	Unfinished State = "it has no partition table and nothing starts from it: write it again"
	Unverified State = "everything was written, but not all of it was read back: write it again"
	Whole      State = "everything was written and read back"
)

// head is what comes last, in bytes from the start of the disk: the partition
// table. No partition begins in it.
const head = layout.Alignment

const (
	chunk = 1 << 20
	// syncEvery bounds what waits in a cache, so that progress is true and an
	// interruption does not wait for minutes.
	syncEvery = 8 << 20
)

// Progress says where a job is.
type Progress struct {
	Step        string // "erase", "write", "verify", "finish"
	Done, Total int64  // bytes of the step
}

// Job writes a disk.
type Job struct {
	// Source is read at Ranges, and those go to the same places of the disk.
	// They are sorted and do not touch each other (Merge).
	Source io.ReaderAt
	Ranges []Range
	Erase  []Range // set to zero; sorted likewise
	// Finish writes the partition table once all else was read back; nil takes
	// it from the source.
	Finish   func(Disk) error
	Progress func(Progress) // may be nil
}

// Run does the job. The head of the disk is erased first and written last: a
// disk that was interrupted has no partition table. The error says what failed
// and where, the state what the disk is now.
func (j *Job) Run(ctx context.Context, d Disk) (State, error) {
	if err := ctx.Err(); err != nil {
		return Untouched, err
	}
	table, body := split(j.Ranges, head)
	// The old table goes alone: a disk with a table and half of what it speaks
	// of would be no better than one half written.
	for _, erase := range [][]Range{{{0, head}}, j.Erase} {
		if err := j.each(ctx, "erase", erase, d, erased); err != nil {
			return Unfinished, err
		}
	}
	if err := j.each(ctx, "write", body, d, j.copied); err != nil {
		return Unfinished, err
	}
	if err := j.each(ctx, "verify", body, d, j.compared); err != nil {
		return Unfinished, err
	}
	if j.Finish != nil {
		if err := j.Finish(d); err != nil {
			return Unfinished, err
		}
		return Whole, nil
	}
	// Few bytes, and not to be interrupted.
	ctx = context.WithoutCancel(ctx)
	if err := j.each(ctx, "finish", table, d, j.copied); err != nil {
		return Unverified, err
	}
	if err := j.each(ctx, "finish", table, d, j.compared); err != nil {
		return Unverified, err
	}
	return Whole, nil
}

// each does something to every chunk of ranges, and syncs.
func (j *Job) each(ctx context.Context, step string, ranges []Range, d Disk, do func(d Disk, buf []byte, off int64) error) error {
	p := Progress{Step: step, Total: Total(ranges)}
	buf := make([]byte, chunk)
	waiting := int64(0)
	for _, r := range ranges {
		for off := r.Off; off < r.End(); {
			if err := ctx.Err(); err != nil {
				return errors.Join(err, d.Sync())
			}
			n := min(chunk, r.End()-off)
			if err := do(d, buf[:n], off); err != nil {
				return fmt.Errorf("%s: %w", step, err)
			}
			off, p.Done, waiting = off+n, p.Done+n, waiting+n
			if waiting >= syncEvery && step != "verify" {
				if err := d.Sync(); err != nil {
					return fmt.Errorf("%s: sync before byte %d: %w", step, off, err)
				}
				waiting = 0
			}
			if j.Progress != nil {
				j.Progress(p)
			}
		}
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("%s: sync: %w", step, err)
	}
	return nil
}

func erased(d Disk, buf []byte, off int64) error {
	clear(buf)
	_, err := d.WriteAt(buf, off)
	return err
}

func (j *Job) copied(d Disk, buf []byte, off int64) error {
	if n, err := j.Source.ReadAt(buf, off); n < len(buf) {
		return fmt.Errorf("read byte %d of the image: %w", off, err)
	}
	_, err := d.WriteAt(buf, off)
	return err
}

// ErrDiffers says that a disk does not give back what was written to it.
var ErrDiffers = errors.New("the disk does not hold what was written to it; it is broken, or smaller than it says")

func (j *Job) compared(d Disk, buf []byte, off int64) error {
	if n, err := j.Source.ReadAt(buf, off); n < len(buf) {
		return fmt.Errorf("read byte %d of the image: %w", off, err)
	}
	got := make([]byte, len(buf))
	if n, err := d.ReadAt(got, off); n < len(got) {
		return fmt.Errorf("read byte %d back: %w", off, err)
	}
	if !bytes.Equal(buf, got) {
		return fmt.Errorf("in the %d bytes from %d on: %w", len(buf), off, ErrDiffers)
	}
	return nil
}
