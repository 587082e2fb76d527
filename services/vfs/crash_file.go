package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"syscall"
	"time"
)

// memFile is one open file of a Crashable.
type memFile struct {
	c      *Crashable
	n      *node
	name   string
	closed bool
}

func (f *memFile) lock() error {
	if err := f.c.lock(); err != nil {
		return err
	}
	if f.closed {
		f.c.mu.Unlock()
		return &fs.PathError{Op: "use", Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.c.begin(OpRead, f.name); err != nil {
		return 0, err
	}
	if err := f.lock(); err != nil {
		return 0, err
	}
	defer f.c.mu.Unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	refused := f.c.begin(OpWrite, f.name)
	if err := f.lock(); err != nil {
		return 0, err
	}
	defer f.c.mu.Unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrInvalid}
	}
	if refused != nil {
		p = p[:len(p)/2]
	} else if room := f.room(off); room < int64(len(p)) {
		p = p[:room]
		refused = &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	if len(p) > 0 {
		f.c.used -= int64(len(f.n.data))
		f.n.write(p, off)
		f.c.used += int64(len(f.n.data))
	}
	return len(p), refused
}

// room is how many bytes may be written at off.
func (f *memFile) room(off int64) int64 {
	if f.c.capacity == 0 {
		return 1 << 60
	}
	grow := max(0, f.c.capacity-f.c.used)
	return max(0, int64(len(f.n.data))+grow-off)
}

func (f *memFile) Truncate(size int64) error {
	if err := f.c.begin(OpTruncate, f.name); err != nil {
		return err
	}
	if err := f.lock(); err != nil {
		return err
	}
	defer f.c.mu.Unlock()
	f.c.used += size - int64(len(f.n.data))
	f.n.truncate(size)
	return nil
}

func (f *memFile) Sync() error {
	refused := f.c.begin(OpSync, f.name)
	if errors.Is(refused, ErrCrashed) {
		return refused
	}
	if err := f.lock(); err != nil {
		return err
	}
	defer f.c.mu.Unlock()
	if refused != nil {
		f.n.lose(&cutter{rng: f.c.rng, mood: keepAny})
		return refused
	}
	f.n.sync()
	return nil
}

// DropCache implements CacheDropper.
func (f *memFile) DropCache(off, n int64) error {
	if err := f.lock(); err != nil {
		return err
	}
	defer f.c.mu.Unlock()
	disk := slices.Clone(f.n.base)
	for _, op := range f.n.ops {
		disk = op.apply(disk)
	}
	seen := f.n.data[min(off, int64(len(f.n.data))):]
	if n > 0 {
		seen = seen[:min(n, int64(len(seen)))]
	}
	clear(seen) // a hole, where the size has grown and the bytes were lost
	copy(seen, disk[min(off, int64(len(disk))):])
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.lock(); err != nil {
		return 0, err
	}
	defer f.c.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error {
	if err := f.lock(); err != nil {
		return err
	}
	defer f.c.mu.Unlock()
	f.closed = true
	return nil
}

func (n *node) sync() {
	for _, op := range n.ops {
		n.base = op.apply(n.base)
	}
	n.ops = nil
}

// lose is what a failed sync does: the disk has taken some sectors, and the
// kernel believes that it need not write the others any more.
func (n *node) lose(k *cutter) {
	for _, op := range n.ops {
		if op.truncate {
			n.base = op.apply(n.base)
		} else {
			n.base = k.torn(n.base, op)
		}
	}
	n.ops = nil
}

func (n *node) write(p []byte, off int64) {
	op := fileOp{off: off, data: slices.Clone(p)}
	n.data = op.apply(n.data)
	n.ops = append(n.ops, op)
}

func (n *node) truncate(size int64) {
	op := fileOp{off: size, truncate: true}
	n.data = op.apply(n.data)
	n.ops = append(n.ops, op)
}

// apply returns b with the change made; it may reuse b's memory.
func (op fileOp) apply(b []byte) []byte {
	end := op.off + int64(len(op.data))
	if op.truncate && op.off < int64(len(b)) {
		clear(b[op.off:]) // a later extension reads as zeros
		return b[:op.off]
	}
	if grow := end - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	copy(b[op.off:], op.data)
	return b
}

// ReadDir implements FS.
func (c *Crashable) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	n, err := c.lookup("readdir", dir)
	if err != nil {
		return nil, err
	}
	if n.kids == nil {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: syscall.ENOTDIR}
	}
	var out []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		kid := n.kids[name]
		out = append(out, memEntry{name, int64(len(kid.data)), kid.kids != nil})
	}
	return out, nil
}

// memEntry is both the fs.DirEntry and the fs.FileInfo of a node.
type memEntry struct {
	name string
	size int64
	dir  bool
}

func (e memEntry) Name() string               { return e.name }
func (e memEntry) IsDir() bool                { return e.dir }
func (e memEntry) Size() int64                { return e.size }
func (e memEntry) Info() (fs.FileInfo, error) { return e, nil }
func (e memEntry) Type() fs.FileMode          { return e.Mode().Type() }
func (e memEntry) ModTime() time.Time         { return time.Time{} }
func (e memEntry) Sys() any                   { return nil }

func (e memEntry) Mode() fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o750
	}
	return 0o640
}
