package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// BootRecord tells U-Boot which of two kernel images to start, and counts the
// boots of one that is on trial. It is docs/formats/boot-record.md: two copies
// in sectors of the boot partition that belong to no file. The image's boot
// script reads and counts it, init writes it.
type BootRecord struct {
	// Sequence tells the newer of the two copies: each write makes it one more.
	Sequence uint32
	Good     int    // image that boots: an index of ESPSlots
	Trial    int    // image on trial, or NoTrial
	Left     uint32 // boots that are left to it
	Done     uint32 // boots that it has had
}

// NoTrial is the Trial of a record without one.
const NoTrial = 2

// BootRecordSectors are the places of the two copies, as sectors of 512 bytes
// from the start of the boot partition. They lie in the FAT's reserved sectors,
// behind the copy of its boot sector, and not in one block of 4 KiB.
var BootRecordSectors = [2]int64{16, 24}

// BootRecordSize is a copy's size in bytes: one sector.
const BootRecordSize = 512

// BootTries is how many boots a version on trial gets.
const BootTries = 3

// Words of 32 bits, little endian, so that U-Boot's
// commands read them.
const (
	bootMagic    = 0x43524257 // "WBRC"
	bootVersion  = 1
	bootSummed   = 28 // bytes before the checksum
	bootTriesMax = 99
)

// Encode returns a copy.
func (r BootRecord) Encode() []byte {
	b := make([]byte, BootRecordSize)
	for i, w := range []uint32{bootMagic, bootVersion, r.Sequence, uint32(r.Good), uint32(r.Trial), r.Left, r.Done} {
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
	binary.LittleEndian.PutUint32(b[bootSummed:], crc32.ChecksumIEEE(b[:bootSummed]))
	return b
}

// DecodeBootRecord reads a copy and refuses what the boot script would.
func DecodeBootRecord(b []byte) (BootRecord, error) {
	if len(b) < bootSummed+4 {
		return BootRecord{}, fmt.Errorf("boot record of %d bytes", len(b))
	}
	w := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	r := BootRecord{Sequence: w(2), Good: int(w(3)), Trial: int(w(4)), Left: w(5), Done: w(6)}
	switch {
	case w(0) != bootMagic:
		return BootRecord{}, fmt.Errorf("boot record: begins with %08x", w(0))
	case binary.LittleEndian.Uint32(b[bootSummed:]) != crc32.ChecksumIEEE(b[:bootSummed]):
		return BootRecord{}, fmt.Errorf("boot record: wrong checksum")
	case w(1) != bootVersion:
		return BootRecord{}, fmt.Errorf("boot record: version %d, this release knows %d", w(1), bootVersion)
	case w(3) > 1 || w(4) > NoTrial || w(5) > bootTriesMax || w(6) > bootTriesMax:
		return BootRecord{}, fmt.Errorf("boot record: %+v makes no sense", r)
	}
	return r, nil
}

// NewestBootRecord picks the copy that counts: the readable one with the
// higher sequence. at is its index of BootRecordSectors, -1 if neither is
// readable; why then says so.
func NewestBootRecord(copies [2][]byte) (r BootRecord, at int, why error) {
	at = -1
	for i, b := range copies {
		c, err := DecodeBootRecord(b)
		if err != nil {
			why = err
			continue
		}
		if at < 0 || c.Sequence > r.Sequence {
			r, at = c, i
		}
	}
	if at >= 0 {
		why = nil
	}
	return r, at, why
}
