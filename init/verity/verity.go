// Package verity opens a slot's file system through dm-verity: it finds out
// whether a partition holds the tree that the command line pins, and has the
// kernel check every block that is read from then on.
package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/waysideos/wayside/image/layout"
)

// ErrMismatch says that a partition does not hold the pinned tree.
var ErrMismatch = errors.New("not the root that the command line pins")

// Pin is what the signed command line says of the root.
type Pin struct {
	RootHash   []byte // sha256
	DataBlocks uint64 // of layout.VerityBlock bytes
}

// ParsePin reads the values of layout.CmdRootHash and layout.CmdDataBlocks.
func ParsePin(rootHash, dataBlocks string) (Pin, error) {
	hash, err := hex.DecodeString(rootHash)
	if err != nil || len(hash) != sha256.Size {
		return Pin{}, fmt.Errorf("command line: %s=%q: want %d hexadecimal digits", layout.CmdRootHash, rootHash, 2*sha256.Size)
	}
	var blocks uint64
	if _, err := fmt.Sscanf(dataBlocks, "%d", &blocks); err != nil || blocks == 0 || blocks > 1<<40 {
		return Pin{}, fmt.Errorf("command line: %s=%q: want a number of blocks", layout.CmdDataBlocks, dataBlocks)
	}
	return Pin{hash, blocks}, nil
}

// Size is what the root takes of its slot, in bytes: data, superblock and hash
// tree, each block of which holds the hashes of 128 below it.
func (p Pin) Size() int64 {
	total := p.DataBlocks + 1
	for level := p.DataBlocks; level > 1; {
		level = (level + block/sha256.Size - 1) / (block / sha256.Size)
		total += level
	}
	return int64(total) * block
}

// Tree is a hash tree whose top matched its pin.
type Tree struct {
	Pin
	Salt []byte
}

const (
	block     = layout.VerityBlock
	superSize = 512
	maxSalt   = 256
)

// Check reads the superblock and the top of the tree behind the data and
// compares it with the pin. A mismatch is ErrMismatch.
//
// The superblock is not trusted: a salt that makes another tree's top hash to
// the pinned value would be a collision of sha256. Everything else in it must
// be what the image builder writes.
func Check(r io.ReaderAt, pin Pin) (*Tree, error) {
	super := make([]byte, superSize)
	at := int64(pin.DataBlocks) * block
	if _, err := r.ReadAt(super, at); err != nil {
		return nil, fmt.Errorf("read verity superblock: %w", err)
	}
	salt, err := parseSuperblock(super, pin.DataBlocks)
	if err != nil {
		return nil, err
	}
	top := make([]byte, block)
	if _, err := r.ReadAt(top, at+block); err != nil {
		return nil, fmt.Errorf("read the top of the hash tree: %w", err)
	}
	h := sha256.New()
	h.Write(salt)
	h.Write(top)
	if got := h.Sum(nil); !bytes.Equal(got, pin.RootHash) {
		return nil, fmt.Errorf("%w: root hash %x", ErrMismatch, got)
	}
	return &Tree{pin, salt}, nil
}

// parseSuperblock checks a version 1 superblock and returns its salt. The
// format is cryptsetup's (wiki "DMVerity", on-disk format).
func parseSuperblock(b []byte, dataBlocks uint64) (salt []byte, err error) {
	le := binary.LittleEndian
	if !bytes.Equal(b[:8], []byte("verity\x00\x00")) {
		return nil, fmt.Errorf("%w: no verity superblock", ErrMismatch)
	}
	algorithm := string(bytes.TrimRight(b[32:64], "\x00"))
	size := int(le.Uint16(b[80:]))
	switch {
	case le.Uint32(b[8:]) != 1 || le.Uint32(b[12:]) != 1:
		return nil, fmt.Errorf("%w: superblock version %d, hash type %d", ErrMismatch, le.Uint32(b[8:]), le.Uint32(b[12:]))
	case algorithm != layout.VerityHash:
		return nil, fmt.Errorf("%w: hash %q", ErrMismatch, algorithm)
	case le.Uint32(b[64:]) != block || le.Uint32(b[68:]) != block:
		return nil, fmt.Errorf("%w: blocks of %d and %d bytes", ErrMismatch, le.Uint32(b[64:]), le.Uint32(b[68:]))
	case le.Uint64(b[72:]) != dataBlocks:
		return nil, fmt.Errorf("%w: %d data blocks", ErrMismatch, le.Uint64(b[72:]))
	case size > maxSalt:
		return nil, fmt.Errorf("%w: salt of %d bytes", ErrMismatch, size)
	}
	return bytes.Clone(b[88 : 88+size]), nil
}

// target is the device-mapper table line for a tree on the block device
// "major:minor" (kernel documentation, device-mapper/verity).
//
// There is no option on corruption: the kernel says which block is bad and
// the reader gets EIO. A restart would put a box whose only slot has one bad
// block into an endless loop.
func (t *Tree) target(device string) string {
	salt := "-"
	if len(t.Salt) > 0 {
		salt = hex.EncodeToString(t.Salt)
	}
	return fmt.Sprintf("1 %s %s %d %d %d %d %s %x %s", device, device, block, block,
		t.DataBlocks, t.DataBlocks+1, layout.VerityHash, t.RootHash, salt)
}
