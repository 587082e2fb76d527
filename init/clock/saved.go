//go:build linux

package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

// The saved time is one file of 20 bytes, little-endian:
//
//	0        4  5        8                       16         20
//	┌────────┬──┬────────┬───────────────────────┬──────────┐
//	│ "WTIM" │ 1│ 0 0 0  │ Unix time, ns, signed │ CRC-32C  │
//	└────────┴──┴────────┴───────────────────────┴──────────┘
//	          version                              of 0..15
const (
	savedDir  = "clock"
	savedFile = "last"
	savedSize = 20
	version   = 1
)

var (
	magic      = [4]byte{'W', 'T', 'I', 'M'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func encode(t time.Time) []byte {
	b := make([]byte, savedSize)
	copy(b, magic[:])
	b[4] = version
	binary.LittleEndian.PutUint64(b[8:], uint64(t.UnixNano()))
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	return b
}

func decode(b []byte) (time.Time, error) {
	switch {
	case len(b) != savedSize || [4]byte(b) != magic:
		return time.Time{}, errors.New("is no saved time")
	case binary.LittleEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli):
		return time.Time{}, errors.New("has a wrong checksum")
	case b[4] != version:
		return time.Time{}, fmt.Errorf("has version %d, want %d", b[4], version)
	}
	return time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:]))).UTC(), nil
}

// load reads the saved time. No file is the zero time and no error.
func load(fsys vfs.FS) (time.Time, error) {
	name := path.Join(savedDir, savedFile)
	b, err := vfs.ReadWhole(fsys, name, savedSize)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read saved time: %v", err)
	}
	t, err := decode(b)
	if err != nil {
		return time.Time{}, fmt.Errorf("saved time %s %v", name, err)
	}
	return t, nil
}

// save replaces the saved time; after a power cut there is the old or the new.
func save(fsys vfs.FS, t time.Time) error {
	if err := vfs.WriteWhole(fsys, path.Join(savedDir, savedFile), encode(t)); err != nil {
		return fmt.Errorf("save time: %v", err)
	}
	return nil
}
