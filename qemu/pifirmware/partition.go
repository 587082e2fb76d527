package pifirmware

import (
	"encoding/binary"
	"io"

	"github.com/waysideos/wayside/image/disk"
)

// part is a partition that the firmware sees, in bytes.
type part struct {
	number      int
	start, size int64
}

const (
	sector     = 512
	mbrEntries = 446
	protective = 0xee
)

// fatTypes are the partition types of old that the firmware takes for FAT.
var fatTypes = map[byte]bool{0x01: true, 0x04: true, 0x06: true, 0x0b: true, 0x0c: true, 0x0e: true}

// partitions are those that may be FAT, in order. A boot ROM knows the table in
// the first sector only; later firmware prefers a GPT where that table says
// that there is one.
func partitions(r io.ReaderAt, size int64, m Model) ([]part, error) {
	mbr := make([]byte, sector)
	if _, err := r.ReadAt(mbr, 0); err != nil || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil, noBoot("the first sector holds no partition table")
	}
	var parts []part
	isGPT := false
	for i := range 4 {
		e := mbr[mbrEntries+16*i:]
		isGPT = isGPT || e[4] == protective
		p := part{i + 1, int64(binary.LittleEndian.Uint32(e[8:])) * sector, int64(binary.LittleEndian.Uint32(e[12:])) * sector}
		if fatTypes[e[4]] && p.size > 0 && p.start+p.size <= size {
			parts = append(parts, p)
		}
	}
	if isGPT && !m.ROM {
		parts = gptPartitions(r, size)
	}
	if len(parts) == 0 {
		return nil, noBoot("%s sees no FAT partition", m.Name)
	}
	return parts, nil
}

// gptPartitions takes the primary table as it is: the firmware checks no sums.
func gptPartitions(r io.ReaderAt, size int64) []part {
	head := make([]byte, sector)
	if _, err := r.ReadAt(head, sector); err != nil || string(head[:8]) != "EFI PART" {
		return nil
	}
	le := binary.LittleEndian
	at, count, entry := le.Uint64(head[72:]), le.Uint32(head[80:]), le.Uint32(head[84:])
	if count > 1024 || entry < 128 || entry > 4096 || at > uint64(size)/sector {
		return nil
	}
	var parts []part
	for i := range int64(count) {
		e := make([]byte, 128)
		if _, err := r.ReadAt(e, int64(at)*sector+i*int64(entry)); err != nil {
			break
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first == 0 || last < first || last >= uint64(size)/sector {
			continue
		}
		parts = append(parts, part{int(i) + 1, int64(first) * sector, int64(last-first+1) * sector})
	}
	return parts
}

// opened is a partition with its file system.
type opened struct {
	part
	*disk.FAT
}

// openFAT opens the first partition that holds a FAT.
func openFAT(r io.ReaderAt, parts []part) (*opened, error) {
	for _, p := range parts {
		if f, err := disk.OpenFAT(io.NewSectionReader(r, p.start, p.size), p.size); err == nil {
			return &opened{p, f}, nil
		}
	}
	return nil, noBoot("no partition holds a FAT file system")
}

// maxAutoboot is what the firmware reads of autoboot.txt, in bytes.
const maxAutoboot = 512

// autoboot is the partition that autoboot.txt of the first one names, or the
// first. One that is not there is the first, too.
func autoboot(first *opened, parts []part, tryboot bool) (part, error) {
	data, err := first.ReadFile("autoboot.txt")
	if err != nil {
		return first.part, nil
	}
	if len(data) > maxAutoboot {
		return part{}, noBoot("autoboot.txt of %d bytes: the firmware reads %d", len(data), maxAutoboot)
	}
	c := config{}
	c.parse(string(data), nil, tryboot, func(string) {}) // which knows no models and includes nothing
	n := c.number("boot_partition", first.number)
	for _, p := range parts {
		if p.number == n {
			return p, nil
		}
	}
	return first.part, nil
}
