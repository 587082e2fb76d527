package rootfs

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"time"

	erofs "github.com/erofs/go-erofs"
)

// BlockSize of the file system, in bytes. Every file larger than what fits
// beside its inode starts on a block of its own, uncompressed: a small change
// of content stays a small change of the image.
const BlockSize = 4096

// Write writes the entries, which Complete orders and completes, as one EROFS
// image and returns its size in bytes, a whole number of blocks. Every time
// stamp is epoch, in Unix seconds.
func Write(w io.WriteSeeker, entries []Entry, epoch int64) (int64, error) {
	if epoch < 0 {
		return 0, fmt.Errorf("write root file system: epoch %d lies before 1970", epoch)
	}
	all, err := Complete(entries)
	if err != nil {
		return 0, err
	}
	tree, err := newTreeFS(all, epoch)
	if err != nil {
		return 0, err
	}
	out := &extent{w: w}
	img := erofs.Create(out, erofs.WithBlockSize(BlockSize), erofs.WithBuildTime(uint64(epoch), 0))
	if err := img.CopyFrom(tree); err != nil {
		return 0, fmt.Errorf("write root file system: %v", err)
	}
	if err := img.Close(); err != nil {
		return 0, fmt.Errorf("write root file system: %v", err)
	}
	if out.end%BlockSize != 0 {
		return 0, fmt.Errorf("write root file system: %d bytes are no whole blocks", out.end)
	}
	// Readers look for more behind an inode that may be the image's last bytes:
	// go-erofs for an inode of 64 bytes, fsck.erofs 1.5 for attributes.
	if _, err := out.Seek(out.end, io.SeekStart); err != nil {
		return 0, fmt.Errorf("write root file system: %w", err)
	}
	if _, err := out.Write(make([]byte, BlockSize)); err != nil {
		return 0, fmt.Errorf("write root file system: %w", err)
	}
	return out.end, nil
}

// extent remembers how far a writer was written.
type extent struct {
	w       io.WriteSeeker
	at, end int64
}

func (x *extent) Write(p []byte) (int, error) {
	n, err := x.w.Write(p)
	x.at += int64(n)
	x.end = max(x.end, x.at)
	return n, err
}

func (x *extent) Seek(offset int64, whence int) (int64, error) {
	at, err := x.w.Seek(offset, whence)
	x.at = at
	return at, err
}

// View shows a tree as it will be read, without writing it.
func View(entries []Entry) (fs.FS, error) {
	all, err := Complete(entries)
	if err != nil {
		return nil, err
	}
	return newTreeFS(all, 0)
}

// Open opens an EROFS image for reading.
func Open(r io.ReaderAt) (fs.FS, error) {
	img, err := erofs.Open(r)
	if err != nil {
		return nil, fmt.Errorf("open root file system: %v", err)
	}
	return img, nil
}

// treeFS shows a completed tree as an fs.FS. Contents are opened at the first
// read, because the writer opens every file before it reads any.
type treeFS struct {
	nodes map[string]*node // by fs.FS path
}

type node struct {
	Entry
	mtime    time.Time
	children []fs.DirEntry
}

func newTreeFS(entries []Entry, epoch int64) (*treeFS, error) {
	t := &treeFS{nodes: make(map[string]*node, len(entries))}
	for _, e := range entries {
		if e.UID < 0 || e.GID < 0 || int64(e.UID) > math.MaxUint32 || int64(e.GID) > math.MaxUint32 {
			return nil, fmt.Errorf("tree entry %s: owner %d:%d out of range", e.Path, e.UID, e.GID)
		}
		n := &node{Entry: e, mtime: time.Unix(epoch, 0).UTC()}
		t.nodes[fsPath(e.Path)] = n
		if e.Path != "/" {
			// Complete puts parents before children and children in order.
			parent := t.nodes[fsPath(path.Dir(e.Path))]
			parent.children = append(parent.children, fs.FileInfoToDirEntry(n))
		}
	}
	return t, nil
}

func fsPath(p string) string {
	if p == "/" {
		return "."
	}
	return p[1:]
}

func (t *treeFS) Open(name string) (fs.File, error) {
	n, ok := t.nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &openNode{node: n}, nil
}

// Lstat keeps the walk from opening each file twice.
func (t *treeFS) Lstat(name string) (fs.FileInfo, error) { return t.Stat(name) }

func (t *treeFS) Stat(name string) (fs.FileInfo, error) {
	n, ok := t.nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

func (t *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, ok := t.nodes[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return n.children, nil
}

func (t *treeFS) ReadLink(name string) (string, error) {
	n, ok := t.nodes[name]
	if !ok {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
	}
	return n.Link, nil
}

func (n *node) Name() string {
	if n.Path == "/" {
		return "."
	}
	return path.Base(n.Path)
}
func (n *node) Size() int64 {
	if n.Entry.Mode.IsRegular() {
		return n.Entry.Size
	}
	return 0
}
func (n *node) Mode() fs.FileMode  { return n.Entry.Mode }
func (n *node) ModTime() time.Time { return n.mtime }
func (n *node) IsDir() bool        { return n.Entry.Mode.IsDir() }

// Sys hands the writer what fs.FileInfo has no words for.
func (n *node) Sys() any {
	return &erofs.Stat{
		UID:   uint32(n.UID),
		GID:   uint32(n.GID),
		Mtime: uint64(n.mtime.Unix()),
		Nlink: n.links(),
		Rdev:  deviceNumber(n.Major, n.Minor),
	}
}

// links counts a directory's own name, its "." and each child's "..".
func (n *node) links() int {
	if !n.IsDir() {
		return 1
	}
	links := 2
	for _, c := range n.children {
		if c.IsDir() {
			links++
		}
	}
	return links
}

// deviceNumber is the kernel's new_encode_dev.
func deviceNumber(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

type openNode struct {
	*node
	content io.ReadCloser
	read    int64
}

func (f *openNode) Stat() (fs.FileInfo, error) { return f.node, nil }

func (f *openNode) Read(p []byte) (int, error) {
	if f.content == nil {
		if f.node.Entry.Open == nil {
			return 0, io.EOF
		}
		content, err := f.node.Entry.Open()
		if err != nil {
			return 0, fmt.Errorf("content of %s: %v", f.Path, err)
		}
		f.content = content
	}
	n, err := f.content.Read(p)
	f.read += int64(n)
	if err == io.EOF && f.read < f.node.Entry.Size {
		return n, fmt.Errorf("content of %s ends after %d of %d bytes", f.Path, f.read, f.node.Entry.Size)
	}
	return n, err
}

func (f *openNode) Close() error {
	if f.content == nil {
		return nil
	}
	err := f.content.Close()
	f.content = nil
	return err
}
