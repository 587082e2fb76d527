package profile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Expose writes files into the folder dir, which is in memory and takes the
// place of one that is there: at every moment there is the old one or the new
// one. It belongs to uid and gid: one of them is root's, and the other
// one reads it.
func Expose(dir string, uid, gid int, files map[string][]byte) error {
	next := dir + ".new"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.Mkdir(next, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		file := filepath.Join(next, name)
		if err := errors.Join(os.WriteFile(file, data, 0o600), give(file, uid, gid, 0o640)); err != nil {
			return err
		}
	}
	if err := give(next, uid, gid, 0o750); err != nil {
		return err
	}
	return takePlace(next, dir, exchange)
}

// exchange swaps what two names mean, in one step (renameat2(2)).
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// takePlace gives the folder next the name dir and removes the one that had
// it. Only on a file system that knows no exchange is there a moment with
// none.
func takePlace(next, dir string, exchange func(a, b string) error) error {
	err := exchange(next, dir)
	switch {
	case err == nil:
		return os.RemoveAll(next)
	case errors.Is(err, fs.ErrNotExist): // the first
		return os.Rename(next, dir)
	case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS):
		return &os.LinkError{Op: "exchange", Old: next, New: dir, Err: err}
	}
	old := dir + ".old"
	if err := errors.Join(os.RemoveAll(old), os.Rename(dir, old)); err != nil {
		return err
	}
	return errors.Join(os.Rename(next, dir), os.RemoveAll(old))
}

// give sets owner and mode, whatever the umask is.
func give(file string, uid, gid int, mode fs.FileMode) error {
	if err := os.Chown(file, uid, gid); err != nil {
		return err
	}
	return os.Chmod(file, mode)
}
