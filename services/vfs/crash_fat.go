package vfs

import "syscall"

// NewCrashableFAT is NewCrashable of FAT and exFAT, which have no journal: a
// crash may leave a renamed file under both names, or none. With two, both say
// where the same blocks are: to remove or replace one frees them under the
// other, whose content is gone, and to do so to that one as well is what the
// kernel takes for a damaged file system (EIO).
func NewCrashableFAT(seed uint64) *Crashable {
	c := NewCrashable(seed)
	c.fat = true
	return c
}

// freed says whether a file's blocks were freed, as a reader sees it and on
// the disk.
type freed struct{ now, durable bool }

// free is of a file that loses a name; it returns n if its blocks are freed.
func (c *Crashable) free(n *node) (*node, error) {
	if !c.fat || n.kids != nil {
		return nil, nil
	}
	if n.lost.now {
		return nil, syscall.EIO
	}
	n.lost.now = true
	return n, nil
}
