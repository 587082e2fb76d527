// Package rootfs turns a list of files into a plain, reproducible EROFS image
// and reads such an image back.
package rootfs

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Entry is one file of a tree. Mode carries the type bits of io/fs: a
// directory, a symbolic link, a device or, with none of them, a regular file.
type Entry struct {
	Path     string      // absolute and clean: "/usr/bin/waysided"
	Mode     fs.FileMode // type and permission bits, set-uid and sticky included
	UID, GID int
	Link     string // target of a symbolic link
	// Major and Minor number of a device.
	Major, Minor uint32
	// Size of a regular file's content in bytes; Open must yield exactly so many.
	Size int64
	// Open opens a regular file's content; nil means empty.
	Open func() (io.ReadCloser, error)
}

// Bytes returns a regular file owned by root with content from memory.
func Bytes(name string, perm fs.FileMode, data []byte) Entry {
	return Entry{Path: name, Mode: perm.Perm(), Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// HostFile returns a regular file owned by root with the content of a file on
// the build machine. The host's own mode, owner and times are not looked at.
func HostFile(name string, perm fs.FileMode, host string) (Entry, error) {
	info, err := os.Stat(host)
	if err != nil {
		return Entry{}, err
	}
	if !info.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("content of %s: %s is not a regular file", name, host)
	}
	return Entry{Path: name, Mode: perm.Perm(), Size: info.Size(), Open: func() (io.ReadCloser, error) {
		return os.Open(host)
	}}, nil
}

// Dir returns a directory owned by root.
func Dir(name string, perm fs.FileMode) Entry {
	return Entry{Path: name, Mode: fs.ModeDir | perm.Perm()}
}

// Symlink returns a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}
}

// CharDevice returns a character device node owned by root.
func CharDevice(name string, perm fs.FileMode, major, minor uint32) Entry {
	return Entry{Path: name, Mode: fs.ModeDevice | fs.ModeCharDevice | perm.Perm(), Major: major, Minor: minor}
}

// Complete returns the entries sorted by path with every missing parent
// directory added (mode 0755, owned by root). A path given twice replaces the
// earlier one, so that overlays may come last; a file in the place of a
// directory that has children is an error.
func Complete(entries []Entry) ([]Entry, error) {
	byPath := map[string]Entry{"/": Dir("/", 0o755)}
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, err
		}
		byPath[e.Path] = e
	}
	for _, e := range entries {
		for dir := path.Dir(e.Path); dir != "/"; dir = path.Dir(dir) {
			parent, ok := byPath[dir]
			if ok && !parent.Mode.IsDir() {
				return nil, fmt.Errorf("tree holds %s below %s, which is not a directory", e.Path, dir)
			}
			if !ok {
				byPath[dir] = Dir(dir, 0o755)
			}
		}
	}
	all := make([]Entry, 0, len(byPath))
	for _, e := range byPath {
		all = append(all, e)
	}
	// Sorted by path components, so that a directory comes right before what
	// it holds: "/a", "/a/b", "/a-b".
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(sortKey(a.Path), sortKey(b.Path)) })
	return all, nil
}

func sortKey(p string) string { return strings.ReplaceAll(p, "/", "\x00") }

func (e Entry) check() error {
	switch {
	case !path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path:
		return fmt.Errorf("tree entry %q: path must be absolute and clean", e.Path)
	case strings.ContainsRune(e.Path, 0):
		return fmt.Errorf("tree entry %q: path holds a NUL", e.Path)
	case e.Mode&fs.ModeSymlink != 0 && e.Link == "":
		return fmt.Errorf("tree entry %s: symbolic link without a target", e.Path)
	case e.Mode.IsRegular() && e.Size > 0 && e.Open == nil:
		return fmt.Errorf("tree entry %s: %d bytes but no content", e.Path, e.Size)
	}
	return nil
}
