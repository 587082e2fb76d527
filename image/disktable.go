package image

import (
	"io"
	"os"
	"syscall"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/verity"
)

const espLabel = "WAYSIDE"

// diskTable lays the shipped partitions out and returns the size of the disk
// that just holds them. Every GUID derives from the release. What U-Boot starts
// is found by boot ROMs that know the partition table of old only.
func diskTable(parts []layout.Partition, r release.Release, byUBoot bool) (disk.Table, int64) {
	t := disk.Table{GUID: r.Derive("disk").String(), Boot: bootProgram(r.Arch), Hybrid: byUBoot}
	at := layout.Alignment
	for _, p := range parts {
		entry := disk.Partition{
			Index: p.Index, Name: p.Name, Type: p.Type, GUID: r.Derive("partition " + string(p.Role)).String(),
			Start: at, Size: p.Size,
		}
		if p.ReadOnly {
			entry.Attributes = layout.AttrReadOnly
		}
		t.Partitions = append(t.Partitions, entry)
		at += alignUp(p.Size)
	}
	// A whole number of MiB, so that tools need not round.
	return t, alignUp(disk.DiskSize(at))
}

// bootProgram is what machines start that have no UEFI; there are some of x86.
func bootProgram(goarch string) string {
	if goarch == "amd64" {
		return disk.BIOSNotice
	}
	return ""
}

func alignUp(n int64) int64 {
	return (n + layout.Alignment - 1) / layout.Alignment * layout.Alignment
}

// partition returns the table's entry for a role that is in parts.
func partition(t disk.Table, parts []layout.Partition, role layout.Role) disk.Partition {
	for i, p := range parts {
		if p.Role == role {
			return t.Partitions[i]
		}
	}
	panic("partition layout without " + string(role)) // layout is a constant
}

func espVolume(p disk.Partition, r release.Release) disk.FATVolume {
	serial := r.Salt("esp serial")
	return disk.FATVolume{
		Size: p.Size, Label: espLabel, Time: time.Unix(r.Epoch, 0), Hidden: uint32(p.Start / disk.Sector),
		Serial: uint32(serial[0])<<24 | uint32(serial[1])<<16 | uint32(serial[2])<<8 | uint32(serial[3]),
	}
}

func verityParams(r release.Release) verity.Params {
	salt := r.Salt("verity salt")
	return verity.Params{UUID: r.Derive("verity"), Salt: salt[:]}
}

// section is a part of a file, to read and to write.
type section struct {
	*io.OffsetWriter
	io.ReaderAt
	size int64
}

func newSection(f *os.File, off, size int64) section {
	return section{io.NewOffsetWriter(f, off), io.NewSectionReader(f, off, size), size}
}

// storedBytes is what a file takes on its disk, holes left out.
func storedBytes(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512, nil
	}
	return info.Size(), nil
}
