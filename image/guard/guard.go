// Package guard is a small UEFI program that the firmware starts first. It
// starts the boot manager and resets the machine when that comes back.
//
// systemd-boot comes back when the firmware refuses the kernel image that it
// chose: one that is not signed, or was altered. It has counted a try by then,
// but firmware that is left with nothing to start waits for a person. With a
// reset, the tries run out and the other slot is started. A boot manager that
// is itself missing or refused is left to the firmware, which may know another
// disk.
package guard

import "encoding/binary"

// Program returns the unsigned program for a GOARCH; ok is false where there
// is none, and the boot manager is started by the firmware itself.
func Program(goarch string) (pe []byte, ok bool) {
	switch goarch {
	case "amd64":
		return program(machineAMD64, codeAMD64), true
	case "arm64":
		return program(machineARM64, codeARM64), true
	}
	return nil, false
}

// The PE file: headers in one sector, then one section of code and constants.
const (
	machineAMD64 = 0x8664
	machineARM64 = 0xaa64
	headers      = 0x200 // bytes, and the alignment in the file
	page         = 0x1000
	peOffset     = 0x40
	optional     = peOffset + 24
	optionalSize = 112 + 16*8
	sectionTable = optional + optionalSize
)

// program wraps position-independent code in a PE32+ file whose entry is its
// first byte (Microsoft's PE format).
func program(machine uint16, code string) []byte {
	size := (len(code) + headers - 1) &^ (headers - 1)
	b := make([]byte, headers+size)
	copy(b, "MZ")
	le := binary.LittleEndian
	le.PutUint32(b[0x3c:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	le.PutUint16(b[peOffset+4:], machine)
	le.PutUint16(b[peOffset+6:], 1) // sections
	le.PutUint16(b[peOffset+20:], optionalSize)
	le.PutUint16(b[peOffset+22:], 0x0022) // executable, large addresses; may be moved, with nothing to relocate
	opt := b[optional:]
	le.PutUint16(opt, 0x20b) // PE32+
	le.PutUint32(opt[4:], uint32(size))
	le.PutUint32(opt[16:], page) // entry
	le.PutUint32(opt[20:], page) // code
	le.PutUint32(opt[32:], page)
	le.PutUint32(opt[36:], headers)
	le.PutUint32(opt[56:], 2*page) // in memory
	le.PutUint32(opt[60:], headers)
	le.PutUint16(opt[68:], 10)     // EFI application
	le.PutUint16(opt[70:], 0x0100) // its pages need not be writable and executable at once
	le.PutUint32(opt[108:], 16)    // data directories, all empty
	section := b[sectionTable:]
	copy(section, ".text")
	le.PutUint32(section[8:], uint32(len(code)))
	le.PutUint32(section[12:], page)
	le.PutUint32(section[16:], uint32(size))
	le.PutUint32(section[20:], headers)
	le.PutUint32(section[36:], 0x60000020) // code, readable, executable
	copy(b[headers:], code)
	return b
}
