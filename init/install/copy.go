package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
)

// Source is the stick that was started.
type Source struct {
	Disk io.ReaderAt
	Size int64 // bytes
	// Root reads the root file system such that a block that was altered is
	// an error; RootBytes is its size, SlotBytes that with the hash tree.
	Root                 io.ReaderAt
	RootBytes, SlotBytes int64
	Arch                 string // GOARCH
	Random               io.Reader
}

// stick is a source whose table was read.
type stick struct {
	Source
	table     *gpt.Table // what goes to the target
	esp, root gpt.Partition
	parts     []layout.Partition
}

func (s Source) open() (*stick, error) {
	parts, err := layout.Partitions(s.Arch)
	if err != nil {
		return nil, err
	}
	all, err := gpt.Read(s.Disk, uint64(s.Size)/gpt.Sector)
	if err != nil {
		return nil, fmt.Errorf("read the stick's partition table: %w", err)
	}
	k := &stick{Source: s, parts: parts, table: &gpt.Table{}}
	if k.table.GUID, err = gpt.NewGUID(s.Random); err != nil {
		return nil, err
	}
	for _, part := range parts {
		typ, err := gpt.ParseGUID(part.Type)
		if err != nil {
			return nil, err
		}
		p, found := all.Find(typ, part.Name)
		if !part.Shipped {
			continue
		}
		if !found {
			return nil, fmt.Errorf("the stick has no %s", part.Name)
		}
		// The stick may stay plugged in: it must not be taken for the disk.
		if p.GUID, err = gpt.NewGUID(s.Random); err != nil {
			return nil, err
		}
		k.table.Partitions = append(k.table.Partitions, p)
		switch part.Role {
		case layout.ESP:
			k.esp = p
		case layout.RootA:
			k.root = p
		}
	}
	if k.SlotBytes > k.root.Size() || k.RootBytes > k.SlotBytes {
		return nil, fmt.Errorf("a root of %d bytes in a slot of %d", k.SlotBytes, k.root.Size())
	}
	return k, nil
}

// ReadAt reads the stick, its root verified.
func (k *stick) ReadAt(p []byte, off int64) (int, error) {
	begin, end := k.root.Offset(), k.root.Offset()+k.RootBytes
	switch {
	case off >= end || off+int64(len(p)) <= begin:
		return k.Disk.ReadAt(p, off)
	case off < begin:
		n, err := k.Disk.ReadAt(p[:begin-off], off)
		if err != nil {
			return n, err
		}
		m, err := k.ReadAt(p[n:], begin)
		return n + m, err
	case off+int64(len(p)) > end:
		n, err := k.Root.ReadAt(p[:end-off], off-begin)
		if int64(n) < end-off {
			return n, err
		}
		m, err := k.ReadAt(p[n:], end)
		return n + m, err
	}
	return k.Root.ReadAt(p, off-begin)
}

// used is what is copied: the blocks in use of the stick's two partitions,
// which lie at the same places of the target.
func (k *stick) used() ([]flash.Range, error) {
	v, err := fat.Open(section{source{k.Disk}, k.esp.Offset(), k.esp.Size()}, k.esp.Size())
	if err != nil {
		return nil, err
	}
	all := []flash.Range{{Off: k.root.Offset(), Size: k.SlotBytes}}
	v.Used(func(off, size int64) { all = append(all, flash.Range{Off: k.esp.Offset() + off, Size: size}) })
	return flash.Merge(all, k.Size), nil
}

// end is the first byte behind what is copied.
func (k *stick) end() int64 { return k.root.Offset() + k.root.Size() }

// Run installs to a disk of size bytes. Whatever the disk held is lost. The
// state says what it holds when an error ends it.
func Run(ctx context.Context, s Source, target gpt.Disk, size int64, progress func(flash.Progress)) (flash.State, error) {
	k, err := s.open()
	if err != nil {
		return flash.Untouched, err
	}
	used, err := k.used()
	if err != nil {
		return flash.Untouched, err
	}
	if size < layout.MinDisk {
		return flash.Untouched, fmt.Errorf("the disk has %d MiB, the least is %d", size/layout.MiB, layout.MinDisk/layout.MiB)
	}
	job := flash.Job{
		Source: k, Ranges: used, Erase: flash.Stale(k.parts, k.end(), size), Progress: progress,
		Finish: func(flash.Disk) error { return k.finish(target, uint64(size)/gpt.Sector) },
	}
	return job.Run(ctx, target)
}

// finish makes the copy a system of its own: it installs no further, and has a
// partition table.
func (k *stick) finish(target gpt.Disk, sectors uint64) error {
	v, err := fat.Open(section{target, k.esp.Offset(), k.esp.Size()}, k.esp.Size())
	if err != nil {
		return err
	}
	if err := v.Remove(path.Dir(layout.ESPInstall), path.Base(layout.ESPInstall)); err != nil {
		return err
	}
	// What stands in front of the table, for machines without UEFI.
	first := make([]byte, gpt.Sector)
	if _, err := k.Disk.ReadAt(first, 0); err != nil {
		return fmt.Errorf("read the stick's first sector: %w", err)
	}
	if _, err := target.WriteAt(first, 0); err != nil {
		return err
	}
	return gpt.Write(target, sectors, k.table)
}

// ReadFile reads the install file of a disk; nil if it has none.
func ReadFile(disk io.ReaderAt, size int64, arch string) ([]byte, error) {
	k, err := Source{Disk: disk, Size: size, Arch: arch, Random: zeros{}}.open()
	if err != nil {
		return nil, err
	}
	v, err := fat.Open(section{source{disk}, k.esp.Offset(), k.esp.Size()}, k.esp.Size())
	if err != nil {
		return nil, err
	}
	files, err := v.List(path.Dir(layout.ESPInstall))
	if err != nil {
		return nil, nil // no such folder
	}
	for _, f := range files {
		if f.Name == path.Base(layout.ESPInstall) {
			r, err := v.Read(f)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(io.LimitReader(r, 128<<10))
		}
	}
	return nil, nil
}

// IsBox says whether a disk holds a box: its boot partition by type and name.
func IsBox(disk io.ReaderAt, size int64, arch string) bool {
	_, err := Source{Disk: disk, Size: size, Arch: arch, Random: zeros{}}.open()
	return err == nil
}

// zeros makes GUIDs that nobody sees.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// section is a part of a disk.
type section struct {
	disk      gpt.Disk
	off, size int64
}

func (s section) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.disk, s.off, s.size).ReadAt(p, off)
}

func (s section) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > s.size {
		return 0, fmt.Errorf("write %d bytes at %d of a partition of %d", len(p), off, s.size)
	}
	return s.disk.WriteAt(p, s.off+off)
}

func (s section) Sync() error { return s.disk.Sync() }

// source is a disk that is only read.
type source struct{ io.ReaderAt }

var errReadOnly = errors.New("the stick is not written to")

func (source) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }
func (source) Sync() error                        { return nil }
