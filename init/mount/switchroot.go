//go:build linux

package mount

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SwitchRoot makes newRoot the root of the system and frees the memory of the
// initramfs. The mounts of API move along. On return the process runs in the
// new root and may exec its init.
func SwitchRoot(log *slog.Logger, newRoot string) error {
	for _, p := range API {
		to := filepath.Join(newRoot, p.Target)
		if err := unix.Mount(p.Target, to, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s into the root: %w", p.Target, err)
		}
	}
	old, err := os.Open("/")
	if err != nil {
		return fmt.Errorf("open the initramfs: %w", err)
	}
	defer old.Close()
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root over the initramfs: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change into the root: %w", err)
	}
	if err := free(int(old.Fd())); err != nil {
		log.Warn("free the initramfs", "err", err)
	}
	return nil
}

// free removes everything below the directory fd that lies on its own file
// system. The paths are out of reach by now, hence the descriptors.
func free(fd int) error {
	var here unix.Stat_t
	if err := unix.Fstat(fd, &here); err != nil {
		return err
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(dup), "initramfs")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		sub, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			_ = unix.Unlinkat(fd, name, 0)
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(sub, &st) == nil && st.Dev == here.Dev {
			_ = free(sub)
			_ = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
		}
		unix.Close(sub)
	}
	return nil
}
