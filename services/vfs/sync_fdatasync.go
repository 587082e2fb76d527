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

// SyncAll implements AllSyncer.
func (o osFS) SyncAll() error {
	d, err := os.Open(string(o))
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}
