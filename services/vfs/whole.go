package vfs

import (
	"errors"
	"fmt"
	"path"
)

// WriteWhole makes data the content of the file name, whose folder it makes;
// after a power cut there is the old content or the new. It uses name + ".new".
func WriteWhole(fsys FS, name string, data []byte) error {
	dir := path.Dir(name)
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	f, err := fsys.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(name+".new", name); err != nil {
		return err
	}
	// The folder may be new itself.
	for ; ; dir = path.Dir(dir) {
		if err := fsys.SyncDir(dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// ReadWhole reads the file name. One of more than most bytes is an error, and
// is not read.
func ReadWhole(fsys FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes, the most is %d", name, size, most)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}
