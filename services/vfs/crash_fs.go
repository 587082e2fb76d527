package vfs

import (
	"errors"
	"io/fs"
	"path"
	"syscall"
)

// Open implements FS.
func (c *Crashable) Open(name string) (File, error) {
	if err := c.begin(OpOpen, name); err != nil {
		return nil, err
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	n, err := c.lookup(OpOpen, name)
	if err != nil {
		return nil, err
	}
	if n.kids != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	if n.lost.now {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	return &memFile{c: c, n: n, name: name}, nil
}

// Create implements FS.
func (c *Crashable) Create(name string) (File, error) {
	if err := c.begin(OpCreate, name); err != nil {
		return nil, err
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	dir, base, err := c.parent(OpCreate, name)
	if err != nil {
		return nil, err
	}
	n := dir.kids[base]
	switch {
	case n == nil:
		n = &node{}
		dir.set(new(byte), base, n, nil)
	case n.kids != nil:
		return nil, &fs.PathError{Op: "create", Path: name, Err: syscall.EISDIR}
	default:
		c.used -= int64(len(n.data))
		n.truncate(0)
	}
	return &memFile{c: c, n: n, name: name}, nil
}

// Rename implements FS.
func (c *Crashable) Rename(from, to string) error {
	if err := c.begin(OpRename, from+" -> "+to); err != nil {
		return err
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	n, err := c.lookup(OpRename, from)
	if err != nil {
		return err
	}
	fd, fb, err := c.parent(OpRename, from)
	if err != nil {
		return err
	}
	td, tb, err := c.parent(OpRename, to)
	if err != nil {
		return err
	}
	var frees *node
	if old := td.kids[tb]; old != nil && len(old.kids) > 0 {
		return &fs.PathError{Op: "rename", Path: to, Err: syscall.ENOTEMPTY}
	} else if old != nil && (old != n || c.fat && from != to) {
		c.used -= int64(len(old.data))
		if frees, err = c.free(old); err != nil {
			return &fs.PathError{Op: "rename", Path: to, Err: err}
		}
	}
	id := new(byte)
	td.set(id, tb, n, frees)
	if fd != td || fb != tb {
		if c.fat {
			id = new(byte)
		}
		fd.set(id, fb, nil, nil)
	}
	return nil
}

// Remove implements FS.
func (c *Crashable) Remove(name string) error {
	if err := c.begin(OpRemove, name); err != nil {
		return err
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	n, err := c.lookup(OpRemove, name)
	if err != nil {
		return err
	}
	dir, base, err := c.parent(OpRemove, name)
	if err != nil {
		return err
	}
	if len(n.kids) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	frees, err := c.free(n)
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	c.used -= int64(len(n.data))
	dir.set(new(byte), base, nil, frees)
	return nil
}

// MkdirAll implements FS.
func (c *Crashable) MkdirAll(dir string) error {
	if err := c.begin(OpMkdir, dir); err != nil {
		return err
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.mkdirAll(dir)
}

func (c *Crashable) mkdirAll(dir string) error {
	if n, err := c.lookup(OpMkdir, dir); err == nil {
		if n.kids == nil {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.mkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	p, base, err := c.parent(OpMkdir, dir)
	if err != nil {
		return err
	}
	p.set(new(byte), base, newDir(), nil)
	return nil
}

// SyncDir implements FS.
func (c *Crashable) SyncDir(dir string) error {
	if err := c.begin(OpSyncDir, dir); err != nil {
		return err
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	n, err := c.lookup(OpSyncDir, dir)
	if err != nil {
		return err
	}
	if n.kids == nil {
		return &fs.PathError{Op: "syncdir", Path: dir, Err: syscall.ENOTDIR}
	}
	n.syncNames()
	return nil
}

func (op dirOp) apply(names map[string]*node) {
	if op.n == nil {
		delete(names, op.name)
	} else {
		names[op.name] = op.n
	}
}

func (d *node) syncNames() {
	for _, op := range d.dirOps {
		op.apply(d.durable)
		if op.frees != nil {
			op.frees.lost.durable = true
		}
	}
	d.dirOps = nil
}

// SyncAll implements AllSyncer.
func (c *Crashable) SyncAll() error {
	if err := c.begin(OpSyncAll, "."); err != nil {
		return err
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	c.root.syncAll()
	return nil
}

func (n *node) syncAll() {
	n.sync()
	n.syncNames()
	for _, kid := range n.kids {
		kid.syncAll()
	}
}
