package filesink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// finish completes a file: it is on the disk, then the position says that it
// gets its name, then it gets it, then the position is behind its records. A
// power cut between any two of these is made good by recover.
func (w *writer) finish(ctx context.Context, p *part) error {
	delete(w.parts, p.at)
	if err := p.finish(); err != nil {
		return err
	}
	e := &ending{Topic: p.at.topic, Partition: p.at.partition, Next: p.next, Part: p.path, Name: p.name, Size: p.off}
	if p.rows == 0 {
		w.position.done(e)
		return errors.Join(w.commit(ctx, p.dead...), w.fs.Remove(p.path))
	}
	if err := w.place(e); err != nil {
		return err
	}
	w.position.Pending = e
	if err := w.commit(ctx, p.dead...); err != nil {
		return err
	}
	if err := w.rename(e); err != nil {
		return fmt.Errorf("complete %s: %w", e.Name, err)
	}
	w.position.done(e)
	if err := w.commit(ctx); err != nil {
		return err
	}
	w.box.Count(p.rows, p.off)
	w.files, w.newest = w.files+1, e.Name
	return w.prune(e.Name)
}

// place has all in place for a file to get a name that no other has.
func (w *writer) place(e *ending) error {
	wanted := e.Name
	for try := 1; ; try++ {
		n, err := w.length(e.Name)
		if err != nil {
			return fmt.Errorf("look for %s: %w", e.Name, err)
		}
		if n < 0 {
			break
		}
		e.Name = w.names.again(wanted, try)
	}
	if err := w.makeFolder(path.Dir(e.Name)); err != nil {
		return err
	}
	if err := w.fs.SyncDir(path.Dir(e.Part)); err != nil {
		return fmt.Errorf("complete %s: %w", e.Name, err)
	}
	return nil
}

// recover gives a file its name that an earlier run has completed, and clears
// what was not complete: those records come again.
func (w *writer) recover(ctx context.Context) error {
	if err := w.makeFolder(w.folder()); err != nil {
		return err
	}
	if e := w.position.Pending; e != nil {
		there, err := w.settle(ctx, e)
		if err != nil {
			return fmt.Errorf("complete %s: %w", e.Name, err)
		}
		if there {
			w.position.done(e)
		} else {
			w.box.Log().Warn("a file that was complete is not on the disk, it is written again", "file", e.Name)
			w.position.Pending = nil
		}
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	return w.clear()
}

func (w *writer) clear() error {
	left, err := w.fs.ReadDir(w.folder())
	if err != nil {
		return fmt.Errorf("list %s: %w", w.folder(), err)
	}
	for _, e := range left {
		if err := w.fs.Remove(path.Join(w.folder(), e.Name())); err != nil {
			return fmt.Errorf("clear %s: %w", w.folder(), err)
		}
	}
	return nil
}

// settle says whether the file of the pending ending has its name now. One of another length under
// either name is none of ours: another stick was plugged in.
func (w *writer) settle(ctx context.Context, e *ending) (there bool, err error) {
	part, err := w.length(e.Part)
	if err != nil {
		return false, err
	}
	named, err := w.length(e.Name)
	if err != nil || part != e.Size {
		return named == e.Size, err
	}
	if named == e.Size {
		twins, err := w.same(e.Part, e.Name)
		if err == nil && twins {
			err = w.untwin(ctx, e)
		}
		if err != nil {
			return false, err
		}
	}
	return true, w.rename(e)
}

// length is a file's size in bytes, -1 where there is none.
func (w *writer) length(name string) (int64, error) {
	f, err := w.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

// makeFolder makes one that a power cut does not take away.
func (w *writer) makeFolder(dir string) error {
	err := w.fs.MkdirAll(dir)
	for ; err == nil && dir != "."; dir = path.Dir(dir) {
		err = w.fs.SyncDir(path.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("make folder %s: %w", dir, err)
	}
	return nil
}

// rename is durable on return. On FAT a renamed file has a new entry, which says
// that it is empty until the file itself is synced; the old entry goes first, or
// two of them would have the same content.
func (w *writer) rename(e *ending) error {
	if err := w.fs.Rename(e.Part, e.Name); err != nil {
		return err
	}
	if err := w.fs.SyncDir(path.Dir(e.Part)); err != nil {
		return err
	}
	f, err := w.fs.Open(e.Name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), w.fs.SyncDir(path.Dir(e.Name)))
}
