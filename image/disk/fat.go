// Package disk writes and reads disk images: a GPT, and the FAT32 file system
// of the boot partition.
package disk

import (
	"encoding/binary"
	"fmt"
	"time"
)

// FAT32 as in Microsoft's "FAT: General Overview of On-Disk Format". Multi-
// byte fields are little endian.
const (
	fatSector    = 512
	fatReserved  = 32 // sectors before the first FAT
	fatCopies    = 2
	fatRoot      = 2 // first cluster of the root directory
	fatBackup    = 6 // sector of the boot sector's copy
	fatEntry     = 4 // bytes of a FAT entry
	fatEnd       = 0x0fffffff
	fatEndMin    = 0x0ffffff8
	fatMask      = 0x0fffffff
	fatMedia     = 0xf8
	minClusters  = 65525 // fewer make it FAT16 in every driver's eyes
	maxClusters  = 0x0ffffff5
	dirEntrySize = 32
)

// Attributes of a directory entry.
const (
	attrReadOnly  = 0x01
	attrHidden    = 0x02
	attrSystem    = 0x04
	attrLabel     = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLongName  = attrReadOnly | attrHidden | attrSystem | attrLabel
)

var le = binary.LittleEndian

// geometry is what the boot sector says of a volume.
type geometry struct {
	sectors    uint32 // of the volume
	perCluster uint32 // sectors per cluster
	fatSectors uint32 // of one FAT
	reserved   uint32
	copies     uint32
	clusters   uint32 // data clusters; numbers run from 2 to clusters+1
	root       uint32
}

func (g geometry) clusterSize() int64 { return int64(g.perCluster) * fatSector }

// dataStart is the offset of cluster 2 in the volume.
func (g geometry) dataStart() int64 {
	return (int64(g.reserved) + int64(g.copies)*int64(g.fatSectors)) * fatSector
}

func (g geometry) clusterOffset(n uint32) int64 {
	return g.dataStart() + int64(n-2)*g.clusterSize()
}

// geometryFor picks the largest clusters, up to 4 KiB, that leave enough of
// them for FAT32, and a FAT that just covers them.
func geometryFor(size int64) (geometry, error) {
	if size%fatSector != 0 || size/fatSector > 1<<32-1 {
		return geometry{}, fmt.Errorf("FAT32 of %d bytes: want whole sectors of %d, fewer than 2^32", size, fatSector)
	}
	for perCluster := uint32(8); perCluster > 0; perCluster /= 2 {
		g := geometry{sectors: uint32(size / fatSector), perCluster: perCluster, reserved: fatReserved, copies: fatCopies, root: fatRoot}
		if g.sectors <= fatReserved {
			break
		}
		rest := int64(g.sectors - fatReserved)
		// Each cluster costs its sectors and one entry in every FAT; entries 0
		// and 1 are reserved. Rounding up makes the FAT at most a sector too long.
		perFAT := ceilDiv(rest+2*int64(perCluster), int64(perCluster)*fatSector/fatEntry+fatCopies)
		g.fatSectors = uint32(perFAT)
		data := rest - fatCopies*perFAT
		g.clusters = uint32(data / int64(perCluster))
		if data > 0 && g.clusters >= minClusters && g.clusters <= maxClusters {
			return g, nil
		}
	}
	return geometry{}, fmt.Errorf("FAT32 of %d bytes: too small, 33 MiB at least", size)
}

// dosTime returns date and time as a directory entry has them: UTC, from 1980
// on, in steps of two seconds.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock = uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	return date, clock
}

func fromDOSTime(date, clock uint16) time.Time {
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
