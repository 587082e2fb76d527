//go:build linux

package firstboot

import (
	"fmt"
	"log/slog"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
)

// Volume makes the file system of a partition if it never had one, mounts it
// and lets it fill the partition.
func Volume(log *slog.Logger, role layout.Role, node, target string, flags uintptr) error {
	made, err := ensureExt4(log, role, node)
	if err != nil {
		return err
	}
	if err := mountGrown(log, role, node, target, flags); err != nil || !made {
		return err
	}
	// Unmounting brings all of the growth to its place on the disk.
	if err := unix.Unmount(target, 0); err != nil {
		return fmt.Errorf("unmount the new %s from %s: %w", role, target, err)
	}
	if err := keep(role, node); err != nil {
		return err
	}
	return mountGrown(log, role, node, target, flags)
}

func mountGrown(log *slog.Logger, role layout.Role, node, target string, flags uintptr) error {
	// An error in the metadata stops writing: a box that keeps what it has
	// and says so is better than one that spreads the damage.
	if err := unix.Mount(node, target, "ext4", flags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", role, node, target, err)
	}
	if err := grow(node, target); err != nil {
		log.Warn("grow the file system", "volume", string(role), "err", err)
	}
	return nil
}

func keep(role layout.Role, node string) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", role, err)
	}
	defer f.Close()
	return Keep(f)
}

func ensureExt4(log *slog.Logger, role layout.Role, node string) (made bool, err error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", role, err)
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return false, fmt.Errorf("measure %s: %w", role, err)
	}
	made, err = Ensure(f, size, "wayside-"+string(role))
	if err != nil {
		return false, fmt.Errorf("%s (%s): %w", role, node, err)
	}
	if made {
		log.Info(fmt.Sprintf("first boot: made the %s file system", role))
	}
	return made, nil
}

// ext4ResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64): the new size in
// file system blocks.
const ext4ResizeFS = 0x40086610

// grow lets a mounted ext4 fill its partition. It is repeated at each boot
// until the superblock says so: the kernel leaves out a last group that is
// too small to hold its own metadata, and then finds nothing to do.
func grow(node, target string) error {
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	have, blockSize, err := blocks(f)
	if err != nil {
		return err
	}
	want := uint64(size) / blockSize
	if have >= want {
		return nil
	}
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4ResizeFS, uintptr(unsafe.Pointer(&want)))
	if errno != 0 {
		return fmt.Errorf("resize %s to %d blocks: %v", target, want, errno)
	}
	return settle(dir)
}

// FIFREEZE and FITHAW of linux/fs.h: _IOWR('X', 119, int) and 120.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// settle freezes and thaws a file system, which brings what its journal holds
// to its place. A power cut while a file system in use grows, on a disk that
// was made larger, may make it unmountable: the time for that is kept short.
func settle(dir *os.File) error {
	for _, op := range []uintptr{fiFreeze, fiThaw} {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), op, 0); errno != 0 {
			return fmt.Errorf("settle %s: %v", dir.Name(), errno)
		}
	}
	return nil
}
