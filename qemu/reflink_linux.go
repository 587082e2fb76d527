package qemu

import (
	"os"

	"golang.org/x/sys/unix"
)

// reflink makes to share from's blocks (ioctl_ficlone(2)); false where the
// file system cannot.
func reflink(to, from *os.File) bool {
	return unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil
}
