// Package fat changes the boot partition's FAT32 in an order that a power cut
// cannot hurt: a file appears, disappears and changes its name by the write of
// one sector, after everything that it needs is on stable storage.
//
// The kernel's driver makes a rename of three writes, with an empty file or
// two names of one content in between, and cannot remove one of two such names
// without freeing the content of both. The volume must not be mounted while it
// is open here.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waysideos/wayside/init/gpt"
)

// FAT32 as in Microsoft's "FAT: General Overview of On-Disk Format".
const (
	sector    = 512
	entrySize = 4 // bytes in the FAT
	endMin    = 0x0ffffff8
	endMark   = 0x0fffffff
	mask      = 0x0fffffff
	slotSize  = 32 // bytes in a folder
	perSector = sector / slotSize

	attrLabel     = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLong      = 0x0f

	removed = 0xe5
)

// Bounds of what is believed. No boot partition comes near.
const (
	maxNodes  = 4096
	maxDepth  = 16
	maxFolder = 1 << 20 // bytes
)

var le = binary.LittleEndian

// Volume is an open FAT32 file system. It is for one goroutine.
type Volume struct {
	d    gpt.Disk
	fat  []byte // the first copy
	info uint32 // sector of FSInfo, 0 if there is none
	free int64  // clusters

	perCluster, reserved, copies, fatSectors, root, clusters uint32
}

// Open reads boot sector and allocation table of a volume of size bytes.
func Open(d gpt.Disk, size int64) (*Volume, error) {
	s := make([]byte, sector)
	if n, err := d.ReadAt(s, 0); n < sector {
		return nil, fmt.Errorf("open the boot partition: %w", err)
	}
	if s[510] != 0x55 || s[511] != 0xaa || string(s[82:87]) != "FAT32" || le.Uint16(s[11:]) != sector {
		return nil, errors.New("open the boot partition: no FAT32 with sectors of 512 bytes; format it again and copy its files back")
	}
	v := &Volume{
		d: d, info: uint32(le.Uint16(s[48:])), perCluster: uint32(s[13]), reserved: uint32(le.Uint16(s[14:])),
		copies: uint32(s[16]), fatSectors: le.Uint32(s[36:]), root: le.Uint32(s[44:]),
	}
	sectors := int64(le.Uint32(s[32:]))
	switch {
	case v.perCluster == 0 || v.perCluster&(v.perCluster-1) != 0 || v.reserved == 0 || v.copies == 0 || v.copies > 4 || v.fatSectors == 0:
		return nil, errors.New("open the boot partition: its boot sector makes no sense")
	case sectors*sector > size || v.dataStart() >= sectors*sector:
		return nil, fmt.Errorf("open the boot partition: its %d sectors do not fit in %d bytes", sectors, size)
	case le.Uint16(s[40:])&0x80 != 0:
		return nil, errors.New("open the boot partition: its copies of the FAT are not kept equal; format it again")
	}
	v.clusters = uint32((sectors*sector - v.dataStart()) / v.clusterSize())
	if have := v.fatSectors * (sector / entrySize); v.clusters+2 > have {
		v.clusters = have - 2
	}
	v.fat = make([]byte, int64(v.fatSectors)*sector)
	if n, err := d.ReadAt(v.fat, int64(v.reserved)*sector); n < len(v.fat) {
		return nil, fmt.Errorf("read the boot partition's FAT: %w", err)
	}
	for c := uint32(2); c < v.clusters+2; c++ {
		if v.next(c) == 0 {
			v.free++
		}
	}
	return v, nil
}

func (v *Volume) clusterSize() int64 { return int64(v.perCluster) * sector }

func (v *Volume) dataStart() int64 {
	return (int64(v.reserved) + int64(v.copies)*int64(v.fatSectors)) * sector
}

func (v *Volume) offset(cluster uint32) int64 {
	return v.dataStart() + int64(cluster-2)*v.clusterSize()
}

func (v *Volume) next(cluster uint32) uint32 { return le.Uint32(v.fat[cluster*entrySize:]) & mask }

// chain returns the clusters from first on.
func (v *Volume) chain(first uint32) ([]uint32, error) {
	var chain []uint32
	for n := first; n < endMin; n = v.next(n) {
		if n < 2 || n > v.clusters+1 {
			return nil, fmt.Errorf("cluster %d lies outside the volume", n)
		}
		if len(chain) > int(v.clusters) {
			return nil, fmt.Errorf("clusters from %d on run in a circle", first)
		}
		chain = append(chain, n)
	}
	return chain, nil
}

// Free is the room for new files in bytes, Reclaim's not counted.
func (v *Volume) Free() int64 { return v.free * v.clusterSize() }

// allocate picks n free clusters, lowest first, without writing.
func (v *Volume) allocate(n int64) ([]uint32, error) {
	var out []uint32
	for c := uint32(2); c < v.clusters+2 && int64(len(out)) < n; c++ {
		if v.next(c) == 0 {
			out = append(out, c)
		}
	}
	if int64(len(out)) < n {
		return nil, fmt.Errorf("%w: %d bytes are free on the boot partition", ErrFull, v.Free())
	}
	return out, nil
}

// ErrFull says that the volume has no room.
var ErrFull = errors.New("boot partition full")

// link sets FAT entries and writes the sectors that hold them to all copies,
// the first copy last: it is the one that counts.
func (v *Volume) link(set map[uint32]uint32) error {
	dirty := map[int64]bool{}
	for cluster, value := range set {
		at := v.fat[cluster*entrySize:]
		if v.next(cluster) == 0 {
			v.free--
		}
		if value == 0 {
			v.free++
		}
		le.PutUint32(at, le.Uint32(at)&^mask|value)
		dirty[int64(cluster*entrySize/sector)] = true
	}
	for copy := int64(v.copies) - 1; copy >= 0; copy-- {
		start := int64(v.reserved) + copy*int64(v.fatSectors)
		for s := range int64(v.fatSectors) {
			if !dirty[s] {
				continue
			}
			if _, err := v.d.WriteAt(v.fat[s*sector:][:sector], (start+s)*sector); err != nil {
				return err
			}
		}
	}
	return v.d.Sync()
}

// chained makes FAT entries of a list of clusters.
func chained(list []uint32) map[uint32]uint32 {
	set := map[uint32]uint32{}
	for i, c := range list {
		set[c] = endMark
		if i+1 < len(list) {
			set[c] = list[i+1]
		}
	}
	return set
}

// noteFree brings FSInfo up to date. It is a hint: nothing depends on it, but
// foreign tools complain when it is wrong.
func (v *Volume) noteFree() error {
	s := make([]byte, sector)
	if v.info == 0 || v.info >= v.reserved {
		return nil
	}
	if _, err := v.d.ReadAt(s, int64(v.info)*sector); err != nil {
		return err
	}
	if le.Uint32(s) != 0x41615252 || le.Uint32(s[484:]) != 0x61417272 {
		return nil
	}
	if le.Uint32(s[488:]) == uint32(v.free) {
		return nil
	}
	le.PutUint32(s[488:], uint32(v.free))
	if _, err := v.d.WriteAt(s, int64(v.info)*sector); err != nil {
		return err
	}
	return v.d.Sync()
}
