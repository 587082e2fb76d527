package firstboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
)

// Content says what a partition holds.
type Content int

const (
	Blank  Content = iota // never held a file system, or its first boot was interrupted
	Ext4                  // carries an ext4 superblock
	Broken                // held an ext4 whose superblock is unreadable: not to be made anew
)

const (
	// block0 covers the boot sector, the ext4 superblock at byte 1024, and
	// the marker. go-diskfs puts nothing else there with 4 KiB blocks.
	block0      = 4096
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xef53
	// backupSuper is where the first backup superblock lies with 4 KiB
	// blocks: the start of the second group, 32768 blocks on.
	backupSuper = 32768 * 4096
	// makeSize is the size a file system is made with, in bytes. The kernel
	// grows it to its partition in a second; writing it out full size would
	// take minutes on a big disk.
	makeSize = 256 * layout.MiB
)

// marker stands at the start of a partition while its file system is made and
// first grown. Growing is not safe against power cuts: the kernel looks at the
// group descriptors before it replays the journal that would mend them. As
// nothing is stored yet, an interrupted first boot begins anew.
var marker = []byte("wayside: ext4 is being made here\n")

// ErrBroken says that a partition held a file system that is unreadable now.
// Nothing is written to it.
var ErrBroken = errors.New("the file system has lost its superblock and is left as it is for repair")

// Ensure makes a file system on a partition of the given size in bytes if it
// never held one, and says whether it did; Keep has to follow before anything
// is stored. One that a power cut left between two superblocks is mended.
func Ensure(d gpt.Disk, size int64, label string) (made bool, err error) {
	content, err := Inspect(d, size)
	switch {
	case err != nil:
		return false, err
	case content == Broken:
		return false, ErrBroken
	case content == Ext4:
		_, err := mend(d, size)
		return false, err
	}
	return true, MakeExt4(d, size, label)
}

// Keep clears the marker of a file system that was just made and has grown to
// its size: from now on what it holds is kept. It must not be mounted.
func Keep(d gpt.Disk) error {
	if _, err := d.WriteAt(make([]byte, superOffset), 0); err != nil {
		return fmt.Errorf("clear the marker: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("clear the marker: sync: %w", err)
	}
	return nil
}

// Inspect tells what lies on a partition of the given size in bytes.
func Inspect(r io.ReaderAt, size int64) (Content, error) {
	head := make([]byte, block0)
	if _, err := r.ReadAt(head, 0); err != nil {
		return Broken, fmt.Errorf("read the first block: %w", err)
	}
	super := head[superOffset:][:superSize]
	if bytes.HasPrefix(head, marker) {
		return Blank, nil
	}
	if hasMagic(super) {
		return Ext4, nil
	}
	if size >= backupSuper+superSize {
		backup := make([]byte, superSize)
		if _, err := r.ReadAt(backup, backupSuper); err != nil {
			return Broken, fmt.Errorf("read the backup superblock: %w", err)
		}
		if hasMagic(backup) {
			return Broken, nil
		}
	}
	return Blank, nil
}

func hasMagic(super []byte) bool {
	return binary.LittleEndian.Uint16(super[0x38:]) == superMagic
}

func superblockWhole(super []byte) bool {
	return hasMagic(super) && binary.LittleEndian.Uint32(super[superSize-4:]) == superblockSum(super)
}

// superblockSum is the checksum that metadata_csum puts in the last four
// bytes: crc32c, seed ~0, not inverted.
func superblockSum(super []byte) uint32 {
	return ^crc32.Checksum(super[:superSize-4], crc32.MakeTable(crc32.Castagnoli))
}

// blocks reads from the superblock how many blocks a file system has, and
// their size in bytes.
func blocks(r io.ReaderAt) (count, size uint64, err error) {
	super := make([]byte, superSize)
	if _, err := r.ReadAt(super, superOffset); err != nil {
		return 0, 0, fmt.Errorf("read the superblock: %w", err)
	}
	le := binary.LittleEndian
	if !hasMagic(super) {
		return 0, 0, errors.New("read the superblock: there is none")
	}
	count = uint64(le.Uint32(super[0x4:])) | uint64(le.Uint32(super[0x150:]))<<32
	return count, 1024 << min(le.Uint32(super[0x18:]), 6), nil
}

// MakeExt4 makes a file system at the start of d, which is size bytes long.
// The superblock is written when all else is on stable storage, and the marker
// stands: a half-made file system is never taken for one.
func MakeExt4(d gpt.Disk, size int64, label string) error {
	step := func(p []byte, off int64) error {
		if _, err := d.WriteAt(p, off); err != nil {
			return fmt.Errorf("make ext4 %s: %w", label, err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("make ext4 %s: sync: %w", label, err)
		}
		return nil
	}
	first := make([]byte, block0)
	copy(first, marker)
	if err := step(first, 0); err != nil {
		return err
	}
	b := &withheld{disk: d, size: min(size, makeSize)}
	_, err := ext4.Create(b, b.size, 0, gpt.Sector, &ext4.Params{
		VolumeName:      label,
		SectorsPerBlock: 4096 / gpt.Sector,
		Features: []ext4.FeatureOpt{
			ext4.WithFeatureMetadataChecksums(true),
			// With it go-diskfs writes tables that e2fsck objects to; growing
			// online works without.
			ext4.WithFeatureReservedGDTBlocksForExpansion(false),
		},
	})
	if err != nil {
		return fmt.Errorf("make ext4 %s: %w", label, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("make ext4 %s: sync: %w", label, err)
	}
	return step(b.first[superOffset:][:superSize], superOffset)
}

// withheld is a disk that keeps its first block back, in the shape that
// go-diskfs asks for.
type withheld struct {
	disk  gpt.Disk
	size  int64
	first [block0]byte
}

var errNotAFile = errors.New("a partition under first boot is no file")

func (w *withheld) ReadAt(p []byte, off int64) (int, error) {
	if off >= block0 {
		return w.disk.ReadAt(p, off)
	}
	n := copy(p, w.first[off:])
	if n == len(p) {
		return n, nil
	}
	m, err := w.disk.ReadAt(p[n:], block0)
	return n + m, err
}

func (w *withheld) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > w.size {
		return 0, fmt.Errorf("write %d bytes at %d: beyond the file system's %d", len(p), off, w.size)
	}
	if off >= block0 {
		return w.disk.WriteAt(p, off)
	}
	n := copy(w.first[off:], p)
	if n == len(p) {
		return n, nil
	}
	m, err := w.disk.WriteAt(p[n:], block0)
	return n + m, err
}

func (w *withheld) Writable() (backend.WritableFile, error) { return w, nil }
func (w *withheld) Sys() (*os.File, error)                  { return nil, errNotAFile }
func (w *withheld) Stat() (fs.FileInfo, error)              { return nil, errNotAFile }
func (w *withheld) Read([]byte) (int, error)                { return 0, errNotAFile }
func (w *withheld) Seek(int64, int) (int64, error)          { return 0, errNotAFile }
func (w *withheld) Close() error                            { return nil }
func (w *withheld) Path() string                            { return "" }
