package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// HasFile is what a File offers when the kernel can send it by itself
// (sendfile). The *os.File stays owned by the File.
type HasFile interface{ OSFile() *os.File }

// Spacer is what an FS offers when it knows how much room is left.
type Spacer interface {
	// Space returns the bytes an ordinary user may still write, and the size
	// of the file system.
	Space() (free, total int64, err error)
}

// OS is the real file system below the directory root, which must exist.
func OS(root string) FS { return osFS(root) }

type osFS string

func (o osFS) path(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return filepath.Join(string(o), filepath.FromSlash(name)), nil
}

func (o osFS) open(name string, flag int) (File, error) {
	p, err := o.path("open", name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (o osFS) Open(name string) (File, error) { return o.open(name, os.O_RDWR) }

// OpenRead implements ReadOpener.
func (o osFS) OpenRead(name string) (File, error) { return o.open(name, os.O_RDONLY) }

func (o osFS) Create(name string) (File, error) {
	return o.open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (o osFS) Rename(from, to string) error {
	f, err := o.path("rename", from)
	if err != nil {
		return err
	}
	t, err := o.path("rename", to)
	if err != nil {
		return err
	}
	return os.Rename(f, t)
}

func (o osFS) Remove(name string) error {
	p, err := o.path("remove", name)
	if err != nil {
		return err
	}
	return os.Remove(p)
}

func (o osFS) MkdirAll(dir string) error {
	p, err := o.path("mkdir", dir)
	if err != nil {
		return err
	}
	return os.MkdirAll(p, 0o750)
}

func (o osFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	p, err := o.path("readdir", dir)
	if err != nil {
		return nil, err
	}
	return os.ReadDir(p)
}

func (o osFS) SyncDir(dir string) error {
	p, err := o.path("syncdir", dir)
	if err != nil {
		return err
	}
	d, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (o osFS) Space() (free, total int64, err error) { return space(string(o)) }

type osFile struct{ *os.File }

func (f osFile) OSFile() *os.File { return f.File }

func (f osFile) Sync() error { return datasync(f.File) }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// Locker is what an FS offers when it can keep other processes out.
type Locker interface {
	// Lock takes the file name for this process until Close. It fails at
	// once when another holds it.
	Lock(name string) (io.Closer, error)
}

func (o osFS) Lock(name string) (io.Closer, error) {
	f, err := o.open(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	file := f.(osFile).File
	if err := lock(file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
