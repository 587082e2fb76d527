package verity

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// CorruptError says which block of a slot is not what the root hash pins.
type CorruptError struct {
	Block int64 // from the start of the slot
	What  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s at block %d (byte %d of the slot) does not match the root hash", e.What, e.Block, e.Block*blockSize)
}

// Verify checks every block of data and tree against the root hash. The first
// wrong block, nearest the root, is returned as a *CorruptError.
func Verify(ctx context.Context, r io.ReaderAt, dataBlocks int64, rootHash []byte) error {
	p, err := ReadParams(r, dataBlocks)
	if err != nil {
		return err
	}
	levels := treeLevels(dataBlocks) // nearest the root first
	want := rootHash
	for _, l := range levels {
		stored := make([]byte, l.blocks*blockSize)
		if n, err := r.ReadAt(stored, l.first*blockSize); n < len(stored) {
			return fmt.Errorf("read verity tree at block %d: %v", l.first, err)
		}
		if err := check(ctx, bytes.NewReader(stored), l, p.Salt, want, "hash tree"); err != nil {
			return err
		}
		want = stored
	}
	return check(ctx, r, level{blocks: dataBlocks}, p.Salt, want, "root file system")
}

// level is a run of blocks in the slot.
type level struct{ first, blocks int64 }

// treeLevels lists the tree's levels in the order they lie on disk.
func treeLevels(dataBlocks int64) []level {
	var levels []level
	for n := dataBlocks; n > 1; {
		n = ceilDiv(n, perBlock)
		levels = append([]level{{blocks: n}}, levels...)
	}
	first := dataBlocks + 1
	for i := range levels {
		levels[i].first = first
		first += levels[i].blocks
	}
	return levels
}

// check hashes the blocks of r, which lie at l in the slot, and compares with
// the digests of the level above.
func check(ctx context.Context, r io.ReaderAt, l level, salt, want []byte, what string) error {
	got, err := digests(ctx, r, l.blocks, salt)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for i := range l.blocks {
		if !bytes.Equal(got[i*digestSize:][:digestSize], want[i*digestSize:][:digestSize]) {
			return &CorruptError{Block: l.first + i, What: what}
		}
	}
	return nil
}
