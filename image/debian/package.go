package debian

import (
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Package is one package of the lock, extracted.
type Package struct {
	LockedPackage
	tree *tree
}

// FS returns the package's files as they would lie in the root of a system, with
// the package's own permissions and times and without owners. It also offers
// ReadLink and Lstat (fs.ReadLinkFS); Open follows links inside the package.
func (p Package) FS() fs.FS { return p.tree }

// Path returns where the content of a file lies on this machine, for programs
// that need a path; links are followed. It returns a path that does not exist
// for a name that is not in the package. The file belongs to the cache: read
// it, do not change it.
func (p Package) Path(name string) string {
	if n, err := p.tree.index.follow(name); err == nil {
		name = n.stored()
	}
	return filepath.Join(p.tree.dir, "files", filepath.FromSlash(path.Clean("/"+name)))
}

// Copyright returns the package's licence text (Debian Policy 12.5); the error
// is fs.ErrNotExist for a package without one.
func (p Package) Copyright() ([]byte, error) {
	return fs.ReadFile(p.tree, "usr/share/doc/"+p.Name+"/copyright")
}

// tree is an extracted package: dir/index.json and dir/files.
type tree struct {
	dir   string
	index *index
}

var _ interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
} = (*tree)(nil)

func (t *tree) lookup(op, name string, follow bool) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	find := t.index.follow
	if !follow {
		find = t.nofollow
	}
	n, err := find(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

// nofollow follows links on the way but not the last element.
func (t *tree) nofollow(name string) (*node, error) {
	dir, err := t.index.follow(path.Dir(name))
	if err != nil {
		return nil, err
	}
	if n := t.index.nodes[path.Join(dir.Path, path.Base(name))]; n != nil {
		return n, nil
	}
	return nil, fs.ErrNotExist
}

func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.lookup("open", name, true)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return &openDir{node: n, entries: t.entries(n)}, nil
	}
	f, err := os.Open(filepath.Join(t.dir, "files", filepath.FromSlash(n.stored())))
	if err != nil {
		return nil, err
	}
	return &openFile{f: f, node: n}, nil
}

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.lookup("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return t.entries(n), nil
}

func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.lookup("stat", name, true)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (t *tree) Lstat(name string) (fs.FileInfo, error) {
	n, err := t.lookup("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (t *tree) ReadLink(name string) (string, error) {
	n, err := t.lookup("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.Kind != kindLink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return n.Link, nil
}

func (t *tree) entries(dir *node) []fs.DirEntry {
	names := t.index.children[dir.Path]
	all := make([]fs.DirEntry, len(names))
	for i, name := range names {
		all[i] = t.index.nodes[path.Join(dir.Path, name)]
	}
	return all
}

// openFile is a file of the cache that answers Stat as the package has it.
type openFile struct {
	f    *os.File
	node *node
}

func (o *openFile) Read(b []byte) (int, error)                { return o.f.Read(b) }
func (o *openFile) ReadAt(b []byte, off int64) (int, error)   { return o.f.ReadAt(b, off) }
func (o *openFile) Seek(off int64, whence int) (int64, error) { return o.f.Seek(off, whence) }
func (o *openFile) Close() error                              { return o.f.Close() }
func (o *openFile) Stat() (fs.FileInfo, error)                { return o.node, nil }

type openDir struct {
	node    *node
	entries []fs.DirEntry
}

func (o *openDir) Stat() (fs.FileInfo, error) { return o.node, nil }
func (o *openDir) Close() error               { return nil }
func (o *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: o.node.Path, Err: fs.ErrInvalid}
}

func (o *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(o.entries)
	} else if len(o.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(o.entries))
	part := o.entries[:n]
	o.entries = o.entries[n:]
	return part, nil
}
