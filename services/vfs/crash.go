package vfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"syscall"
)

// ErrCrashed is what every operation on a Crashable returns after Crash.
var ErrCrashed = errors.New("file system has crashed")

// Op names an operation to a Hook.
type Op string

// The operations that a Hook sees, with the name they act on.
const (
	OpOpen     Op = "open"
	OpCreate   Op = "create"
	OpWrite    Op = "write"
	OpRead     Op = "read"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpRename   Op = "rename" // name is "from -> to"
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
	OpSyncAll  Op = "syncall"
)

// Hook is asked before every operation; an error it returns becomes the
// operation's. A write that is refused has written its first half, as a full
// disk does. A sync that is refused has written some sectors, and the others
// never reach the disk, whatever is synced later, while readers still see them
// until DropCache; but with ErrCrashed it has not begun. It is called without
// locks held and by many goroutines.
type Hook func(op Op, name string) error

// Crashable is a file system in memory that remembers what was synced. It is
// harsher than ext4: un-synced sectors and names survive in any combination.
type Crashable struct {
	mu       sync.Mutex
	rng      *rand.Rand
	root     *node
	hook     Hook
	capacity int64 // bytes of file data; 0 means no limit
	used     int64
	dead     bool
	fat      bool
}

// node is a directory (kids != nil) or a regular file.
type node struct {
	data []byte // what a reader sees
	base []byte // what was synced
	ops  []fileOp
	lost freed

	kids    map[string]*node // what a reader sees
	durable map[string]*node
	dirOps  []dirOp
}

// fileOp is one un-synced change: a write at off, or a truncate to off.
type fileOp struct {
	off      int64
	data     []byte
	truncate bool
}

// dirOp is one un-synced change of names in one directory. The two halves of
// a rename share an id, because a journaling file system keeps both or none.
type dirOp struct {
	id   *byte
	name string
	n    *node // nil removes the name

	frees *node
}

// NewCrashable returns an empty file system; seed decides what its crashes
// leave behind.
func NewCrashable(seed uint64) *Crashable {
	return &Crashable{rng: rand.New(rand.NewPCG(seed, 0x77617973)), root: newDir()}
}

func newDir() *node {
	return &node{kids: map[string]*node{}, durable: map[string]*node{}}
}

// SetHook installs h, or removes the hook when h is nil.
func (c *Crashable) SetHook(h Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = h
}

// SetCapacity makes writes beyond n bytes of data in all files fail with
// ENOSPC; 0 means no limit.
func (c *Crashable) SetCapacity(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity = n
}

// Space implements Spacer.
func (c *Crashable) Space() (free, total int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capacity == 0 {
		return 1 << 50, 1 << 50, nil
	}
	return max(0, c.capacity-c.used), c.capacity, nil
}

// FailNth returns a hook that fails the n-th operation op (from 1) whose name
// matches pattern (path.Match) with err, and every later one if sticky.
func FailNth(op Op, pattern string, n int, err error, sticky bool) Hook {
	var mu sync.Mutex
	seen := 0
	return func(o Op, name string) error {
		if ok, _ := path.Match(pattern, name); o != op || !ok {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		if seen == n || (sticky && seen > n) {
			return err
		}
		return nil
	}
}

// begin asks the hook.
func (c *Crashable) begin(op Op, name string) error {
	c.mu.Lock()
	h := c.hook
	c.mu.Unlock()
	if h == nil {
		return nil
	}
	if err := h(op, name); err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

// lock takes the mutex of a living file system.
func (c *Crashable) lock() error {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return ErrCrashed
	}
	return nil
}

func (c *Crashable) lookup(op Op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: string(op), Path: name, Err: fs.ErrInvalid}
	}
	n := c.root
	if name == "." {
		return n, nil
	}
	dir, base := path.Split(name)
	if dir != "" {
		p, err := c.lookup(op, path.Clean(dir))
		if err != nil {
			return nil, err
		}
		n = p
	}
	kid := n.kids[base]
	if kid == nil {
		return nil, &fs.PathError{Op: string(op), Path: name, Err: syscall.ENOENT}
	}
	return kid, nil
}

// parent returns the directory that holds name, and the name in it.
func (c *Crashable) parent(op Op, name string) (*node, string, error) {
	dir, err := c.lookup(op, path.Dir(name))
	if err != nil {
		return nil, "", err
	}
	if dir.kids == nil {
		return nil, "", &fs.PathError{Op: string(op), Path: name, Err: syscall.ENOTDIR}
	}
	return dir, path.Base(name), nil
}

// set gives a name, or with nil takes it; frees is on FAT the file that loses
// its blocks by that.
func (d *node) set(id *byte, name string, n, frees *node) {
	if n == nil {
		delete(d.kids, name)
	} else {
		d.kids[name] = n
	}
	d.dirOps = append(d.dirOps, dirOp{id, name, n, frees})
}
