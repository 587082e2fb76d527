package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A prepared kernel image waits at the end of the inactive slot's partition
// until init copies it to the boot partition: docs/formats/partition-layout.md,
// "Staged kernel image".
const (
	StagedArea   = int64(64) << 20 // bytes at the partition's end
	StagedHeader = 4096            // bytes from the area's start to the image
	// StagedMax is the largest image, in bytes.
	StagedMax = StagedArea - StagedHeader

	stagedSector  = 512
	stagedVersion = 1
	stagedWords   = 7 + 1 + 8 + 8 + 32 + 32 + 1 + 63
)

var stagedMagic = [7]byte{'W', 'S', 'D', 'U', 'K', 'I', 0}

// ErrNotStaged says that an area holds no header: nothing was staged, or it
// was being written.
var ErrNotStaged = errors.New("no kernel image is staged")

// Staged describes a staged kernel image.
type Staged struct {
	Version  string // at most 63 bytes
	Counter  uint64
	Length   int64
	SHA256   [sha256.Size]byte // of the image
	RootHash [sha256.Size]byte // of the slot's hash tree
}

// StagedOffset is where the area begins in a partition of size bytes.
func StagedOffset(size int64) int64 { return size - StagedArea }

// Encode returns the header's one sector. It is written after the image is on
// stable storage, and a disk does not tear it.
func (s Staged) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, stagedSector)
	b = append(append(b, stagedMagic[:]...), stagedVersion)
	b = binary.LittleEndian.AppendUint64(b, s.Counter)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Length))
	b = append(append(b, s.SHA256[:]...), s.RootHash[:]...)
	b = append(append(b, byte(len(s.Version))), s.Version...)
	b = append(b, make([]byte, stagedSector-4-len(b))...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// DecodeStaged reads what Encode has written; b may be longer. It is
// ErrNotStaged when the area holds no header.
func DecodeStaged(b []byte) (Staged, error) {
	if len(b) < stagedSector {
		return Staged{}, fmt.Errorf("read staged header: %d bytes, want %d", len(b), stagedSector)
	}
	b = b[:stagedSector]
	switch {
	case [7]byte(b) != stagedMagic:
		return Staged{}, ErrNotStaged
	case binary.LittleEndian.Uint32(b[stagedSector-4:]) != crc32.Checksum(b[:stagedSector-4], castagnoli):
		return Staged{}, fmt.Errorf("%w: the header has a wrong checksum", ErrNotStaged)
	case b[7] != stagedVersion:
		return Staged{}, fmt.Errorf("read staged header: version %d, want %d", b[7], stagedVersion)
	}
	s := Staged{
		Counter:  binary.LittleEndian.Uint64(b[8:]),
		Length:   int64(binary.LittleEndian.Uint64(b[16:])),
		SHA256:   [sha256.Size]byte(b[24:]),
		RootHash: [sha256.Size]byte(b[56:]),
	}
	n := int(b[88])
	if n > stagedWords-89 {
		return Staged{}, fmt.Errorf("read staged header: version name of %d bytes", n)
	}
	s.Version = string(b[89 : 89+n])
	return s, s.check()
}

func (s Staged) check() error {
	switch {
	case s.Version == "" || len(s.Version) > 63:
		return fmt.Errorf("staged kernel image: version name of %d bytes, want 1 to 63", len(s.Version))
	case s.Length <= 0 || s.Length > StagedMax:
		return fmt.Errorf("staged kernel image: %d bytes, the most is %d", s.Length, StagedMax)
	}
	return nil
}
