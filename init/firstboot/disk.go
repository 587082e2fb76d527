//go:build linux

package firstboot

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
)

// Partitions lays out the booted disk (kernel name, "vda"), tells the kernel,
// and returns the device nodes by role, with problems for the technician. A
// disk that is as it should be is not written.
func Partitions(log *slog.Logger, disk string) (nodes map[layout.Role]string, problems []string, err error) {
	parts, err := layout.Partitions(runtime.GOARCH)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile("/dev/"+disk, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open the booted disk: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return nil, nil, fmt.Errorf("measure %s: %w", disk, err)
	}
	plan, err := Apply(f, uint64(size)/gpt.Sector, parts, log)
	if err != nil {
		return nil, nil, fmt.Errorf("lay out %s: %w", disk, err)
	}
	nodes = map[layout.Role]string{}
	for _, part := range parts {
		for _, e := range plan.Table.Partitions {
			if e.Name != part.Name {
				continue
			}
			if err := tellKernel(f, disk, e); err != nil {
				return nil, nil, err
			}
			nodes[part.Role] = "/dev/" + Node(disk, e.Index)
		}
	}
	return nodes, plan.Problems, nil
}

// Apply plans and writes the table of a disk.
func Apply(d gpt.Disk, sectors uint64, parts []layout.Partition, log *slog.Logger) (*Plan, error) {
	now, err := gpt.Read(d, sectors)
	if err != nil {
		return nil, err
	}
	plan, err := Make(now, sectors, parts, rand.Reader)
	if err != nil || len(plan.Changes) == 0 {
		return plan, err
	}
	if err := gpt.Write(d, sectors, plan.Table); err != nil {
		return nil, err
	}
	for _, c := range plan.Changes {
		log.Info("first boot: " + c)
	}
	return plan, nil
}

// Node is the kernel's name of a partition: "vda3", "nvme0n1p3".
func Node(disk string, index int) string {
	sep := ""
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		sep = "p"
	}
	return disk + sep + strconv.Itoa(index)
}

// Reveal tells the kernel of the partitions of a table that it could not read
// itself, as it does not look at the backup copy.
func Reveal(disk string, t *gpt.Table) error {
	f, err := os.Open("/dev/" + disk)
	if err != nil {
		return fmt.Errorf("open the booted disk: %w", err)
	}
	defer f.Close()
	for _, e := range t.Partitions {
		if err := tellKernel(f, disk, e); err != nil {
			return err
		}
	}
	return nil
}

// tellKernel adds or resizes one partition by BLKPG. Re-reading the whole
// table is refused while the root is open on the disk.
func tellKernel(disk *os.File, name string, e gpt.Partition) error {
	known := sysfsNumber("/sys/class/block", Node(name, e.Index), "size")
	op, did := int32(unix.BLKPG_ADD_PARTITION), "add"
	switch {
	case known*gpt.Sector == e.Size():
		return nil
	case known >= 0:
		op, did = unix.BLKPG_RESIZE_PARTITION, "resize"
	}
	arg := unix.BlkpgPartition{Start: e.Offset(), Length: e.Size(), Pno: int32(e.Index)}
	req := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(arg)), Data: (*byte)(unsafe.Pointer(&arg))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return fmt.Errorf("%s partition %d of %s: %v", did, e.Index, name, errno)
	}
	return nil
}

// sysfsNumber reads a number; -1 if there is none.
func sysfsNumber(path ...string) int64 {
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
