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
