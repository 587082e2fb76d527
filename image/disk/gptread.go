package disk

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// Fields of a GPT header, by offset.
const (
	gptCRC        = 16
	gptMyLBA      = 24
	gptOtherLBA   = 32
	gptDiskGUID   = 56
	gptEntriesLBA = 72
	gptEntryCount = 80
	gptEntrySize  = 84
	gptEntriesCRC = 88
	gptHeaderSize = 92
	gptEntries    = 128
	gptEntryBytes = 128
)

// ReadGPT reads the partition table of a disk of size bytes. Primary and
// backup must both be whole and say the same: an image fresh from a build has
// no reason for less. The error names the first part that is not.
func ReadGPT(r io.ReaderAt, size int64) (Table, error) {
	last := size/Sector - 1
	if size%Sector != 0 || last < 2*gptSectors {
		return Table{}, fmt.Errorf("read GPT: disk of %d bytes is too small or not of whole sectors", size)
	}
	mbr, err := readMBR(r)
	if err != nil {
		return Table{}, err
	}
	primary, entries, err := readHeader(r, "primary", 1, last, 2)
	if err != nil {
		return Table{}, err
	}
	backup, backupEntries, err := readHeader(r, "backup", last, 1, last-gptSectors+1)
	if err != nil {
		return Table{}, err
	}
	if !bytes.Equal(entries, backupEntries) || !bytes.Equal(primary[40:gptEntriesLBA], backup[40:gptEntriesLBA]) {
		return Table{}, fmt.Errorf("read GPT: primary and backup table differ")
	}
	t := Table{GUID: guidString(primary[gptDiskGUID:][:16]), Boot: strings.TrimRight(string(mbr[:MaxBoot]), "\x00")}
	for i := range gptEntries {
		p, used := parseEntry(entries[i*gptEntryBytes:][:gptEntryBytes], i+1)
		if !used {
			continue
		}
		if p.Start < Sector*(gptSectors+1) || p.Size <= 0 || p.Start+p.Size > size-gptSectors*Sector {
			return Table{}, fmt.Errorf("read GPT: partition %d at %d of %d bytes leaves the disk", p.Index, p.Start, p.Size)
		}
		t.Partitions = append(t.Partitions, p)
	}
	more := mbr[mbrEntries+mbrEntry : mbrEntries+4*mbrEntry]
	t.Hybrid = len(t.Partitions) > 0 && bytes.Equal(more, hybridEntries(t.Partitions[0])[mbrEntry:])
	if !t.Hybrid && !bytes.Equal(more, make([]byte, len(more))) {
		return Table{}, fmt.Errorf("read GPT: the partition table in sector 0 names what the GPT does not")
	}
	return t, nil
}

// MadeFor is the size of the disk that a partition table was made for: an
// image on a larger one keeps its own until the first boot. It is size if there
// is no table, or none of a smaller disk.
func MadeFor(r io.ReaderAt, size int64) int64 {
	h := make([]byte, gptHeaderSize)
	if n, _ := r.ReadAt(h, Sector); n < len(h) || string(h[:8]) != "EFI PART" {
		return size
	}
	if last := le.Uint64(h[gptOtherLBA:]); last < uint64(size/Sector) {
		return int64(last+1) * Sector
	}
	return size
}

func readMBR(r io.ReaderAt) ([]byte, error) {
	mbr := make([]byte, Sector)
	if n, err := r.ReadAt(mbr, 0); n < len(mbr) {
		return nil, fmt.Errorf("read GPT: sector 0: %v", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa || mbr[mbrEntries+4] != mbrProtective || le.Uint32(mbr[mbrEntries+8:]) != 1 {
		return nil, fmt.Errorf("read GPT: sector 0 holds no protective MBR")
	}
	return mbr, nil
}

// readHeader reads the header at an LBA and its entries, and checks both.
func readHeader(r io.ReaderAt, what string, lba, other, entriesLBA int64) (header, entries []byte, err error) {
	h := make([]byte, Sector)
	if n, err := r.ReadAt(h, lba*Sector); n < len(h) {
		return nil, nil, fmt.Errorf("read GPT: %s header: %v", what, err)
	}
	if string(h[:8]) != "EFI PART" {
		return nil, nil, fmt.Errorf("read GPT: no %s header at sector %d", what, lba)
	}
	zeroed := bytes.Clone(h[:gptHeaderSize])
	le.PutUint32(zeroed[gptCRC:], 0)
	if le.Uint32(h[12:]) != gptHeaderSize || crc32.ChecksumIEEE(zeroed) != le.Uint32(h[gptCRC:]) {
		return nil, nil, fmt.Errorf("read GPT: %s header at sector %d has a wrong checksum", what, lba)
	}
	if int64(le.Uint64(h[gptMyLBA:])) != lba || int64(le.Uint64(h[gptOtherLBA:])) != other ||
		int64(le.Uint64(h[gptEntriesLBA:])) != entriesLBA ||
		le.Uint32(h[gptEntryCount:]) != gptEntries || le.Uint32(h[gptEntrySize:]) != gptEntryBytes {
		return nil, nil, fmt.Errorf("read GPT: %s header at sector %d is made for another disk or layout", what, lba)
	}
	entries = make([]byte, gptEntries*gptEntryBytes)
	if n, err := r.ReadAt(entries, entriesLBA*Sector); n < len(entries) {
		return nil, nil, fmt.Errorf("read GPT: %s entries: %v", what, err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[gptEntriesCRC:]) {
		return nil, nil, fmt.Errorf("read GPT: %s entries at sector %d have a wrong checksum", what, entriesLBA)
	}
	return h, entries, nil
}

func parseEntry(e []byte, index int) (Partition, bool) {
	if bytes.Equal(e[:16], make([]byte, 16)) {
		return Partition{}, false
	}
	first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
	const most = 1 << 50 // sectors; keeps the products below in range
	if first < 0 || last < first || last > most {
		first, last = 0, -1
	}
	units := make([]uint16, 0, 36)
	for i := 56; i < gptEntryBytes && le.Uint16(e[i:]) != 0; i += 2 {
		units = append(units, le.Uint16(e[i:]))
	}
	return Partition{
		Index: index, Name: string(utf16.Decode(units)), Type: guidString(e[:16]), GUID: guidString(e[16:32]),
		Start: first * Sector, Size: (last - first + 1) * Sector, Attributes: le.Uint64(e[48:]),
	}, true
}

// guidString writes a GUID as UEFI stores it: the first three fields are
// little endian.
func guidString(b []byte) string {
	swapped := []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}
	x := strings.ToUpper(hex.EncodeToString(append(swapped, b[8:16]...)))
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}
