package vfs

import (
	"errors"
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
