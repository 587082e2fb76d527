package gpt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Disk is a disk as Write needs it. Sync returns when all writes before it
// are on stable storage.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Write puts t on a disk of the given size in sectors, filling the disk: the
// backup lands in its last sectors. Whenever the power goes, what a reader
// of the primary copy finds is the whole old table or the whole new one,
// provided that the disk writes a sector whole or not at all; a reader of
// both copies survives a torn sector as well.
//
// Entries and header cannot be written together, so the primary header is
// first pointed at a second copy of the entries behind the usual place, then
// back. Neither Linux (without "gpt" on its command line) nor every firmware
// looks at the backup when the primary is broken, which is why the order
// "backup, then primary in place" is not enough.
func Write(d Disk, sectors uint64, t *Table) error {
	if sectors < 2*entriesSecs+4 {
		return fmt.Errorf("write partition table: a disk of %d sectors has no room for it", sectors)
	}
	entries, err := encodeEntries(t, sectors)
	if err != nil {
		return err
	}
	mbr, err := protectiveMBR(d, sectors)
	if err != nil {
		return err
	}
	last := sectors - 1
	head := func(self, other, entriesAt uint64) []byte {
		return encodeHeader(t.GUID, self, other, entriesAt, last-entriesSecs-1, entries)
	}
	type write struct {
		at   uint64
		data []byte
	}
	plan := []write{
		{last - entriesSecs, entries},
		{last, head(last, primaryHeader, last-entriesSecs)},
	}
	if spareIsFree(t) && !t.Moved { // those in use are not written over
		plan = append(plan,
			write{spareEntries, entries},
			write{primaryHeader, head(primaryHeader, last, spareEntries)})
	}
	plan = append(plan,
		write{primaryEntries, entries},
		write{primaryHeader, head(primaryHeader, last, primaryEntries)},
		write{0, mbr})
	for _, w := range plan {
		if _, err := d.WriteAt(w.data, int64(w.at)*Sector); err != nil {
			return fmt.Errorf("write partition table at sector %d: %w", w.at, err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("write partition table at sector %d: sync: %w", w.at, err)
		}
	}
	return nil
}

// spareIsFree says whether no partition lies where the second copy of the
// entries goes. On our images the first megabyte is free.
func spareIsFree(t *Table) bool {
	for _, p := range t.Partitions {
		if p.Start < spareEntries+entriesSecs {
			return false
		}
	}
	return true
}

func encodeHeader(guid GUID, self, other, entriesAt, lastUsable uint64, entries []byte) []byte {
	le := binary.LittleEndian
	first := uint64(firstUsable)
	if entriesAt == spareEntries {
		first = spareEntries + entriesSecs // entries may not lie in the usable range
	}
	b := make([]byte, Sector)
	copy(b, signature)
	le.PutUint32(b[8:], 0x00010000) // revision 1.0
	le.PutUint32(b[12:], headerSize)
	le.PutUint64(b[24:], self)
	le.PutUint64(b[32:], other)
	le.PutUint64(b[40:], first)
	le.PutUint64(b[48:], lastUsable)
	copy(b[56:], guid[:])
	le.PutUint64(b[72:], entriesAt)
	le.PutUint32(b[80:], entryCount)
	le.PutUint32(b[84:], entrySize)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

func encodeEntries(t *Table, sectors uint64) ([]byte, error) {
	le := binary.LittleEndian
	raw := make([]byte, entriesBytes)
	seen := map[int]bool{}
	for _, p := range t.Partitions {
		if p.Index < 1 || p.Index > entryCount || seen[p.Index] {
			return nil, fmt.Errorf("encode partition %q: index %d is out of range or used twice", p.Name, p.Index)
		}
		seen[p.Index] = true
		if p.Start < firstUsable || p.End < p.Start || p.End > sectors-entriesSecs-2 {
			return nil, fmt.Errorf("encode partition %q: sectors %d to %d lie outside of the usable %d to %d",
				p.Name, p.Start, p.End, firstUsable, sectors-entriesSecs-2)
		}
		name := utf16.Encode([]rune(p.Name))
		if len(name) > nameUnits {
			return nil, fmt.Errorf("encode partition %q: the name is longer than %d characters", p.Name, nameUnits)
		}
		b := raw[(p.Index-1)*entrySize:]
		copy(b, p.Type[:])
		copy(b[16:], p.GUID[:])
		le.PutUint64(b[32:], p.Start)
		le.PutUint64(b[40:], p.End)
		le.PutUint64(b[48:], p.Attributes)
		for i, u := range name {
			le.PutUint16(b[56+2*i:], u)
		}
	}
	return raw, nil
}

// protectiveMBR keeps MBR tools off the disk (UEFI 2.10, section 5.2.3). The
// boot program in front of the table, which tells a BIOS's user that the disk
// needs UEFI, stays as it is, and so does all of a hybrid one, in which firmware
// that knows no GPT finds the boot partition: its protective entry covers the
// table only, and does not grow.
func protectiveMBR(d Disk, sectors uint64) ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, Sector)
	if _, err := d.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read the first sector: %w", err)
	}
	e := b[446:]
	if e[4] == 0xee && e[16+4] != 0 && b[510] == 0x55 && b[511] == 0xaa {
		return b, nil
	}
	clear(e)
	copy(e[1:], []byte{0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	le.PutUint32(e[8:], 1)
	le.PutUint32(e[12:], uint32(min(sectors-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b, nil
}
