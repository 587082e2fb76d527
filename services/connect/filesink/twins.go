package filesink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
)

// twinFolder is where names of twins are kept. A connector's name has no dot.
const twinFolder = ".wayside/.twins"

// untwin is for a file that a power cut has left under both names: FAT and
// exFAT have no journal, and both say where the same blocks are. Whatever takes
// one of the names away frees the blocks of the other. So the content is
// copied, both names are put where nobody touches them until the file system is
// checked, and the position says that the copy gets the name. A cut before that
// leaves the twins, or neither of the names: then the file is written again.
func (w *writer) untwin(ctx context.Context, e *ending) error {
	w.box.Log().Warn("a power cut has left a file twice in the same place: what is in the folder is kept apart until the disk is checked (fsck.vfat, chkdsk)",
		"file", e.Name, "folder", twinFolder)
	whole := e.Part + ".copy"
	if err := w.copy(e.Part, whole); err != nil {
		return fmt.Errorf("copy %s: %w", e.Part, err)
	}
	if err := w.makeFolder(twinFolder); err != nil {
		return err
	}
	for _, name := range []string{e.Name, e.Part} {
		if err := w.setApart(name); err != nil {
			return err
		}
	}
	e.Part = whole
	return w.commit(ctx)
}

// setApart moves a twin, which frees nothing.
func (w *writer) setApart(name string) error {
	for n := 1; ; n++ {
		to := fmt.Sprintf("%s/%s.%d", twinFolder, w.cfg.Name, n)
		switch have, err := w.length(to); {
		case err != nil:
			return err
		case have < 0:
			return errors.Join(w.fs.Rename(name, to), w.fs.SyncDir(path.Dir(name)), w.fs.SyncDir(twinFolder))
		}
	}
}

// same says whether two files have the same content.
func (w *writer) same(a, b string) (bool, error) {
	sumA, errA := w.sum(a)
	sumB, errB := w.sum(b)
	return bytes.Equal(sumA, sumB), errors.Join(errA, errB)
}

func (w *writer) sum(name string) ([]byte, error) {
	h := sha256.New()
	err := w.readTo(h, name)
	return h.Sum(nil), err
}

func (w *writer) readTo(to io.Writer, name string) error {
	f, err := w.fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err == nil {
		_, err = io.Copy(to, io.NewSectionReader(f, 0, size))
	}
	return err
}

// copy is durable on return.
func (w *writer) copy(from, to string) error {
	f, err := w.fs.Create(to)
	if err != nil {
		return err
	}
	return errors.Join(w.readTo(io.NewOffsetWriter(f, 0), from), f.Sync(), f.Close(), w.fs.SyncDir(path.Dir(to)))
}
