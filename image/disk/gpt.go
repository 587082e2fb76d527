package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Sector is the logical sector size, in bytes.
const Sector = 512

// gptSectors is what the table takes at either end of the disk, in sectors:
// header and 128 entries; in front also the protective MBR.
const gptSectors = 33

// Table is a GUID partition table (UEFI 2.10, section 5.3).
type Table struct {
	GUID       string
	Partitions []Partition
	// Boot is a program in the first sector, for firmware that knows no
	// partition table: at most MaxBoot bytes, "" for none.
	Boot string
	// Hybrid has the partition table of old name the first partition too, as
	// FAT32, for firmware that reads nothing else.
	Hybrid bool
}

// MaxBoot is the room for a boot program, in bytes: a disk signature and the
// partition table of old follow.
const MaxBoot = 440

// Partition is one entry. Start and Size are bytes, whole sectors.
type Partition struct {
	Index      int    `json:"index"` // entry number, from 1
	Name       string `json:"name"`
	Type       string `json:"type"`
	GUID       string `json:"guid"`
	Start      int64  `json:"start_bytes"`
	Size       int64  `json:"size_bytes"`
	Attributes uint64 `json:"attributes"`
}

// DiskSize is the smallest disk whose last partition ends at end.
func DiskSize(end int64) int64 { return end + gptSectors*Sector }

// WriteGPT writes protective MBR, primary and backup table of a disk of size
// bytes. Every GUID must be given.
func WriteGPT(w io.WriterAt, size int64, t Table) error {
	if len(t.Boot) > MaxBoot {
		return fmt.Errorf("write GPT: boot program of %d bytes, there is room for %d", len(t.Boot), MaxBoot)
	}
	if t.GUID == "" || size%Sector != 0 {
		return fmt.Errorf("write GPT: disk of %d bytes, GUID %q: want whole sectors and a GUID", size, t.GUID)
	}
	table := &gpt.Table{LogicalSectorSize: Sector, PhysicalSectorSize: Sector, GUID: t.GUID, ProtectiveMBR: true}
	end := int64((1 + gptSectors) * Sector)
	for _, p := range t.Partitions {
		switch {
		case p.GUID == "" || p.Type == "":
			return fmt.Errorf("write GPT: partition %s without a GUID", p.Name)
		case p.Start%Sector != 0 || p.Size%Sector != 0 || p.Size <= 0:
			return fmt.Errorf("write GPT: partition %s at %d of %d bytes: want whole sectors", p.Name, p.Start, p.Size)
		case p.Start < end || p.Start+p.Size > size-gptSectors*Sector:
			return fmt.Errorf("write GPT: partition %s at %d of %d bytes overlaps its neighbour or leaves the disk", p.Name, p.Start, p.Size)
		}
		end = p.Start + p.Size
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: p.Index, Name: p.Name, Type: gpt.Type(p.Type), GUID: p.GUID, Attributes: p.Attributes,
			Start: uint64(p.Start / Sector), End: uint64(end/Sector) - 1, Size: uint64(p.Size),
		})
	}
	if err := table.Write(writeOnly{w}, size); err != nil {
		return fmt.Errorf("write GPT: %v", err)
	}
	if _, err := w.WriteAt([]byte(t.Boot), 0); err != nil {
		return fmt.Errorf("write GPT: boot program: %v", err)
	}
	if t.Hybrid {
		if _, err := w.WriteAt(hybridEntries(t.Partitions[0]), mbrEntries); err != nil {
			return fmt.Errorf("write GPT: hybrid table: %v", err)
		}
	}
	return nil
}

// The partition table of old, in the first sector.
const (
	mbrEntries    = 446
	mbrEntry      = 16 // bytes
	mbrProtective = 0xee
	mbrFAT32      = 0x0c // addressed by sector number
)

// hybridEntries protect the table alone, up to the first partition, and name
// that. Addresses by cylinder say that they are not to be used.
func hybridEntries(first Partition) []byte {
	b := make([]byte, 4*mbrEntry)
	entry := func(at int, kind byte, start, sectors int64) {
		copy(b[at:], []byte{0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff})
		le.PutUint32(b[at+8:], uint32(start))
		le.PutUint32(b[at+12:], uint32(sectors))
	}
	entry(0, mbrProtective, 1, first.Start/Sector-1)
	entry(mbrEntry, mbrFAT32, first.Start/Sector, first.Size/Sector)
	return b
}

// writeOnly is as much of a file as the library's writer uses. It has no
// Sync: an image in the making is synced once, as a whole, if at all.
type writeOnly struct{ io.WriterAt }

var errWriteOnly = errors.New("only WriteAt is supported")

func (writeOnly) Stat() (fs.FileInfo, error)        { return nil, errWriteOnly }
func (writeOnly) Read([]byte) (int, error)          { return 0, errWriteOnly }
func (writeOnly) ReadAt([]byte, int64) (int, error) { return 0, errWriteOnly }
func (writeOnly) Seek(int64, int) (int64, error)    { return 0, errWriteOnly }
func (writeOnly) Close() error                      { return nil }
