//go:build linux

package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync leaves out the inode's times, which nothing here reads; fsync
// would write them to the journal each time.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// DropCache implements CacheDropper.
func (f osFile) DropCache(off, n int64) error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED))
}

// Reserve implements Reserver.
func (f osFile) Reserve(off, n int64) error {
	return os.NewSyscallError("fallocate", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n))
}

// Unreserve implements Reserver: what lies behind the end goes with it.
func (f osFile) Unreserve() error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	return f.Truncate(size)
}

// SyncAll implements AllSyncer.
func (o osFS) SyncAll() error {
	d, err := os.Open(string(o))
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}
