//go:build linux

// Package dm makes device-mapper devices of one target.
package dm

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
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
	dmSecure     = 1 << 15 // the kernel wipes its copy of the request

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

func call(nr uintptr, name string, r *request) error {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the device mapper: %w", err)
	}
	defer control.Close()
	r.version = [3]uint32{4, 0, 0}
	r.dataSize, r.dataStart = dmHeader+dmMax, dmHeader
	copy(r.name[:], name)
	// _IOWR(0xfd, nr, struct dm_ioctl)
	req := uintptr(3)<<30 | uintptr(dmHeader)<<16 | 0xfd<<8 | nr
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), req, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Table is a device's one target: its kind, its length in sectors of 512
// bytes, and its parameters as the kernel's documentation has them.
type Table struct {
	Kind     string
	Sectors  uint64
	Params   string
	ReadOnly bool
}

// Create makes the device called name and returns its node.
func Create(name string, t Table) (string, error) {
	created := &request{}
	if err := call(dmCreate, name, created); err != nil {
		return "", fmt.Errorf("create device %s: %w", name, err)
	}
	load := &request{}
	defer clear(load.payload[:]) // it may hold a key
	load.targetCount, load.flags = 1, dmSecure
	if t.ReadOnly {
		load.flags |= dmReadOnly
	}
	s := (*spec)(unsafe.Pointer(&load.payload[0]))
	s.length = t.Sectors
	copy(s.kind[:], t.Kind)
	copy(load.payload[dmSpec:len(load.payload)-1], t.Params)
	err := call(dmLoad, name, load)
	if err == nil {
		err = call(dmResume, name, &request{})
	}
	if err != nil {
		_ = call(dmRemove, name, &request{})
		return "", fmt.Errorf("load %s table of %s: %w", t.Kind, name, err)
	}
	// The low 20 bits of dev hold the minor's low byte and the major.
	minor := created.dev&0xff | created.dev>>12&^uint64(0xff)
	return fmt.Sprintf("/dev/dm-%d", minor), nil
}

// Status is what the target says of itself.
func Status(name string) (string, error) {
	r := &request{}
	if err := call(dmStatus, name, r); err != nil {
		return "", fmt.Errorf("ask for the state of %s: %w", name, err)
	}
	text, _, _ := bytes.Cut(r.payload[dmSpec:], []byte{0})
	if r.flags&dmBufferFull != 0 || r.targetCount != 1 || len(text) == 0 {
		return "", fmt.Errorf("ask for the state of %s: unexpected answer %q", name, text)
	}
	return string(text), nil
}

// Number is a block device's "major:minor", as tables name it.
func Number(node string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return "", fmt.Errorf("stat %s: %w", node, err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}
