//go:build linux

package mount

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// keep names file systems that are the kernel's or the root's; nothing on
// them needs to reach a disk.
var keep = []string{"proc", "sysfs", "devtmpfs", "devpts", "cgroup2", "efivarfs", "pstore", "tmpfs", "rootfs", "erofs", "squashfs"}

// UnmountAll unmounts every disk's file system, last mounted first; one that
// is busy is made read-only, which writes out all it holds. It returns how
// many could not even be that.
func UnmountAll(log *slog.Logger) int {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		log.Error("list mounts", "err", err)
		return 1
	}
	defer f.Close()
	left := 0
	for _, target := range diskMounts(f) {
		if unix.Unmount(target, 0) == nil {
			continue
		}
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			log.Error(fmt.Sprintf("%s stays mounted for writing", target), "err", err)
			left++
			continue
		}
		_ = unix.Unmount(target, unix.MNT_DETACH)
	}
	return left
}

// diskMounts lists mount points in the order to unmount them, from the text
// of /proc/self/mountinfo (proc_pid_mountinfo(5)).
func diskMounts(mountinfo io.Reader) []string {
	var out []string
	s := bufio.NewScanner(mountinfo)
	for s.Scan() {
		left, right, found := strings.Cut(s.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !found || len(before) < 5 || len(after) < 1 || slices.Contains(keep, after[0]) {
			continue
		}
		if target := unescape.Replace(before[4]); target != "/" {
			out = append(out, target)
		}
	}
	slices.Reverse(out)
	return out
}
