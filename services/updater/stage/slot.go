package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// Slot is a root partition.
type Slot struct {
	vfs.File
	Size int64 // bytes
}

// OpenSlot opens the partition name of fsys: a device node of /dev, or a file
// in tests.
func OpenSlot(fsys vfs.FS, name string) (Slot, error) {
	f, err := fsys.Open(name)
	return measured(name, f, err)
}

// ReadSlot is OpenSlot for reading alone: all that init lets the updater do
// with the slot that runs.
func ReadSlot(fsys vfs.FS, name string) (Slot, error) {
	f, err := vfs.OpenRead(fsys, name)
	return measured(name, f, err)
}

// measured is a slot that was opened, or could not be.
func measured(name string, f vfs.File, err error) (Slot, error) {
	if err != nil {
		return Slot{}, fmt.Errorf("open slot: %w", err)
	}
	s := Slot{File: f}
	if dev, ok := f.(vfs.HasFile); ok {
		s.Size, err = dev.OSFile().Seek(0, io.SeekEnd) // stat gives 0 for a device
	} else {
		s.Size, err = f.Size()
	}
	if err == nil && s.Size <= manifest.StagedArea {
		err = fmt.Errorf("has only %d bytes", s.Size)
	}
	if err != nil {
		f.Close()
		return Slot{}, fmt.Errorf("size of slot %s: %w", name, err)
	}
	return s, nil
}

func (s Slot) kernelAt() int64 { return manifest.StagedOffset(s.Size) + manifest.StagedHeader }

// Header reads which release is staged; manifest.ErrNotStaged if none is.
func (s Slot) Header() (manifest.Staged, error) {
	b := make([]byte, manifest.StagedHeader)
	if _, err := s.ReadAt(b, manifest.StagedOffset(s.Size)); err != nil {
		return manifest.Staged{}, fmt.Errorf("read staged header: %w", err)
	}
	return manifest.DecodeStaged(b)
}

// clearHeader makes init refuse the slot, if it does not already.
func (s Slot) clearHeader() error {
	if _, err := s.Header(); errors.Is(err, manifest.ErrNotStaged) {
		return s.settle() // perhaps only memory knows that it is gone
	}
	return s.putHeader(make([]byte, manifest.StagedHeader))
}

// writeHeader has init take the slot. All else was settled when the root was
// verified.
func (s Slot) writeHeader(h manifest.Staged) error {
	b, err := h.Encode()
	if err != nil {
		return err
	}
	return s.putHeader(append(b, make([]byte, manifest.StagedHeader-len(b))...))
}

func (s Slot) putHeader(b []byte) error {
	if _, err := s.WriteAt(b, manifest.StagedOffset(s.Size)); err != nil {
		return fmt.Errorf("write staged header: %w", err)
	}
	return s.settle()
}

// settle puts all on stable storage, and has what is read from here on come
// from there.
func (s Slot) settle() error {
	if err := s.Sync(); err != nil {
		return fmt.Errorf("sync the inactive slot: %w", err)
	}
	if d, ok := s.File.(vfs.CacheDropper); ok {
		if err := d.DropCache(0, 0); err != nil {
			return fmt.Errorf("read the inactive slot anew: %w", err)
		}
	}
	return nil
}

// Kernel reads the kernel image that h says is staged.
func (s Slot) Kernel(h manifest.Staged) *io.SectionReader {
	return io.NewSectionReader(s, s.kernelAt(), h.Length)
}

// rootSize is how far the file system of the slot reaches, in bytes: EROFS has
// its magic at byte 1024, log2 of its block size at 12 behind that and its
// blocks at 36 (fs/erofs/erofs_fs.h). Without one it is all before the staged
// area: the size only bounds where the like of a release is looked for.
func (s Slot) rootSize() int64 {
	most := s.Size - manifest.StagedArea
	b := make([]byte, 128)
	if _, err := s.ReadAt(b, 1024); err != nil || binary.LittleEndian.Uint32(b) != 0xe0f5e1e2 || b[12] > 16 {
		return most
	}
	if size := int64(binary.LittleEndian.Uint32(b[36:])) << b[12]; size > 0 {
		return min(size, most)
	}
	return most
}
