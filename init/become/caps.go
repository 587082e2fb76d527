//go:build linux

package become

import (
	"syscall"
	"unsafe"
)

// What package syscall lacks of linux/prctl.h and linux/capability.h.
const (
	prCapbsetRead     = 23
	prCapbsetDrop     = 24
	prSetNoNewPrivs   = 38
	prCapAmbient      = 47
	prCapAmbientRaise = 2
	capVersion3       = 0x20080522
)

// Capabilities and no_new_privs belong to a thread, and exec takes those of
// the thread that calls it: packages are initialised on one.

func prctl(option, a, b uintptr) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, a, b, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// limit takes every capability out of the bounding set that is neither to stay
// nor unknown to this kernel.
func limit(stay uint64) error {
	for c := uintptr(0); c < 64; c++ {
		has, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapbsetRead, c, 0, 0, 0, 0)
		if errno != 0 || has == 0 || stay>>c&1 == 1 {
			continue
		}
		if err := prctl(prCapbsetDrop, c, 0); err != nil {
			return err
		}
	}
	return nil
}

// ambient makes capabilities survive exec without root (capabilities(7),
// "Ambient"): they must be permitted and inheritable.
func ambient(set uint64) error {
	header := struct {
		version uint32
		pid     int32
	}{capVersion3, 0}
	type words struct{ effective, permitted, inheritable uint32 }
	data := [2]words{{uint32(set), uint32(set), uint32(set)}, {uint32(set >> 32), uint32(set >> 32), uint32(set >> 32)}}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0); errno != 0 {
		return errno
	}
	for c := uintptr(0); c < 64; c++ {
		if set>>c&1 == 1 {
			if err := prctl(prCapAmbient, prCapAmbientRaise, c); err != nil {
				return err
			}
		}
	}
	return nil
}
