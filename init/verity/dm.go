//go:build linux

package verity

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
)

// Device-mapper ioctls (linux/dm-ioctl.h), here rather than from a library:
// go-dmverity hands the kernel a pointer that Go's stack may move meanwhile.
const (
	dmCreate = 3
	dmRemove = 4
	dmResume = 6 // DM_DEV_SUSPEND without the suspend flag
	dmLoad   = 9
	dmStatus = 12

	dmReadOnly   = 1 << 0
	dmBufferFull = 1 << 8

	dmHeader = 312 // sizeof(struct dm_ioctl)
	dmSpec   = 40  // sizeof(struct dm_target_spec)
	dmMax    = 4096
)

// header is struct dm_ioctl.
type header struct {
	version                          [3]uint32
	dataSize, dataStart, targetCount uint32
	openCount                        int32
	flags, eventNr, padding          uint32
	dev                              uint64
	name                             [128]byte
	uuid                             [129]byte
	data                             [7]byte
}

// spec is struct dm_target_spec.
type spec struct {
	start, length uint64
	status        int32
	next          uint32
	kind          [16]byte
}

// request is header and payload in one piece, as the kernel wants them.
type request struct {
	header
	payload [dmMax]byte
}

func dmCall(nr uintptr, r *request) error {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the device mapper: %w", err)
	}
	defer control.Close()
	r.version = [3]uint32{4, 0, 0}
	r.dataSize, r.dataStart = dmHeader+dmMax, dmHeader
	copy(r.name[:], layout.DeviceRoot)
	// _IOWR(0xfd, nr, struct dm_ioctl)
	req := uintptr(3)<<30 | uintptr(dmHeader)<<16 | 0xfd<<8 | nr
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), req, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Open activates t on a block device node, read-only, and returns the node
// of the verified device.
func Open(t *Tree, node string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return "", fmt.Errorf("stat %s: %w", node, err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	created := &request{}
	if err := dmCall(dmCreate, created); err != nil {
		return "", fmt.Errorf("create device %s: %w", layout.DeviceRoot, err)
	}
	load := &request{}
	load.flags, load.targetCount = dmReadOnly, 1
	s := (*spec)(unsafe.Pointer(&load.payload[0]))
	s.length = t.DataBlocks * block / 512
	copy(s.kind[:], "verity")
	copy(load.payload[dmSpec:len(load.payload)-1], t.target(device))
	err := dmCall(dmLoad, load)
	if err == nil {
		err = dmCall(dmResume, &request{})
	}
	if err != nil {
		_ = dmCall(dmRemove, &request{})
		return "", fmt.Errorf("load verity table for %s: %w", node, err)
	}
	// The low 20 bits of dev hold the minor's low byte and the major.
	minor := created.dev&0xff | created.dev>>12&^uint64(0xff)
	return fmt.Sprintf("/dev/dm-%d", minor), nil
}

// Corrupted says whether the kernel has met a bad block since Open.
func Corrupted() (bool, error) {
	r := &request{}
	if err := dmCall(dmStatus, r); err != nil {
		return false, fmt.Errorf("ask for the state of %s: %w", layout.DeviceRoot, err)
	}
	text, _, _ := bytes.Cut(r.payload[dmSpec:], []byte{0})
	if r.flags&dmBufferFull != 0 || r.targetCount != 1 || len(text) == 0 {
		return false, fmt.Errorf("ask for the state of %s: unexpected answer %q", layout.DeviceRoot, text)
	}
	return text[0] == 'C', nil // "V" valid, "C" corrupted
}
