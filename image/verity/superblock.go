package verity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/waysideos/wayside/image/layout"
)

// superblock is the on-disk form, little endian, 512 bytes.
type superblock struct {
	Signature     [8]byte
	Version       uint32
	HashType      uint32
	UUID          [16]byte
	Algorithm     [32]byte
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	_             [6]byte
	Salt          [256]byte
	_             [168]byte
}

var signature = [8]byte{'v', 'e', 'r', 'i', 't', 'y'}

// superblock returns the block that lies between data and tree.
func (p Params) superblock(dataBlocks int64) ([]byte, error) {
	if dataBlocks < 1 {
		return nil, fmt.Errorf("verity superblock: %d data blocks", dataBlocks)
	}
	sb := superblock{
		Signature: signature, Version: 1, HashType: 1, UUID: p.UUID,
		DataBlockSize: blockSize, HashBlockSize: blockSize, DataBlocks: uint64(dataBlocks),
		SaltSize: uint16(len(p.Salt)),
	}
	if copy(sb.Salt[:], p.Salt) != len(p.Salt) {
		return nil, fmt.Errorf("verity superblock: salt of %d bytes, at most %d fit", len(p.Salt), len(sb.Salt))
	}
	copy(sb.Algorithm[:], layout.VerityHash)
	block, err := binary.Append(make([]byte, 0, blockSize), binary.LittleEndian, sb)
	return block[:blockSize], err
}

// ReadParams reads the superblock behind dataBlocks blocks and refuses one
// that this package would not have written, to the byte.
func ReadParams(r io.ReaderAt, dataBlocks int64) (Params, error) {
	block := make([]byte, blockSize)
	if n, err := r.ReadAt(block, dataBlocks*blockSize); n < blockSize {
		return Params{}, fmt.Errorf("read verity superblock at block %d: %v", dataBlocks, err)
	}
	var sb superblock
	if _, err := binary.Decode(block, binary.LittleEndian, &sb); err != nil {
		return Params{}, fmt.Errorf("decode verity superblock at block %d: %v", dataBlocks, err)
	}
	if sb.Signature != signature {
		return Params{}, fmt.Errorf("no verity superblock at block %d", dataBlocks)
	}
	if int(sb.SaltSize) > len(sb.Salt) {
		return Params{}, fmt.Errorf("verity superblock at block %d: salt of %d bytes", dataBlocks, sb.SaltSize)
	}
	p := Params{UUID: sb.UUID, Salt: sb.Salt[:sb.SaltSize]}
	want, err := p.superblock(dataBlocks)
	if err != nil {
		return Params{}, err
	}
	if i := firstDifference(block, want); i >= 0 {
		return Params{}, fmt.Errorf("verity superblock at block %d: unexpected byte at offset %d", dataBlocks, i)
	}
	return p, nil
}

// firstDifference returns the index of the first differing byte of two
// slices of one length, or -1.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
