// Package verity writes and checks the dm-verity hash tree of a slot.
//
// A slot file holds, in blocks of 4096 bytes:
//
//	0 … n-1   data (the EROFS image)
//	n         superblock, as veritysetup writes it, padded with zeros
//	n+1 …     hash tree, the level nearest the root first
//
// The tree is hash type 1 with SHA-256: a digest is SHA-256 of salt and block.
// See the kernel's Documentation/admin-guide/device-mapper/verity.rst.
package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/image/layout"
)

const (
	blockSize  = layout.VerityBlock
	digestSize = sha256.Size
	perBlock   = blockSize / digestSize
)

// File is what a slot is written to.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Params are the values of the superblock that the caller chooses. Both
// derive from the release, never from a random source.
type Params struct {
	UUID [16]byte
	Salt []byte // at most 256 bytes
}

// Tree says where Append put the tree.
type Tree struct {
	RootHash   []byte
	DataBlocks int64
	Size       int64 // bytes from the start of the slot to the end of the tree
}

// Append writes superblock and hash tree behind the first dataBlocks blocks
// of f.
func Append(ctx context.Context, f File, dataBlocks int64, p Params) (Tree, error) {
	sb, err := p.superblock(dataBlocks)
	if err != nil {
		return Tree{}, err
	}
	levels, err := hashLevels(ctx, f, dataBlocks, p.Salt)
	if err != nil {
		return Tree{}, err
	}
	off := dataBlocks * blockSize
	if _, err := f.WriteAt(sb, off); err != nil {
		return Tree{}, fmt.Errorf("write verity superblock: %w", err)
	}
	off += blockSize
	for i := len(levels) - 2; i >= 0; i-- { // the last level is the root hash itself
		if _, err := f.WriteAt(levels[i], off); err != nil {
			return Tree{}, fmt.Errorf("write verity tree: %w", err)
		}
		off += int64(len(levels[i]))
	}
	return Tree{RootHash: levels[len(levels)-1][:digestSize], DataBlocks: dataBlocks, Size: off}, nil
}

// Size is how many bytes a slot of so many data blocks takes, tree included.
func Size(dataBlocks int64) int64 {
	size := (dataBlocks + 1) * blockSize
	for n := dataBlocks; n > 1; {
		n = ceilDiv(n, perBlock)
		size += n * blockSize
	}
	return size
}

// hashLevels returns the digests of the data blocks, then of that level's
// blocks, and so on up to one digest. Each level is padded with zeros to
// whole blocks.
func hashLevels(ctx context.Context, r io.ReaderAt, dataBlocks int64, salt []byte) ([][]byte, error) {
	level, err := digests(ctx, r, dataBlocks, salt)
	if err != nil {
		return nil, err
	}
	levels := [][]byte{level}
	for n := dataBlocks; n > 1; {
		n = ceilDiv(n, perBlock)
		if level, err = digests(ctx, bytes.NewReader(level), n, salt); err != nil {
			return nil, err
		}
		levels = append(levels, level)
	}
	return levels, nil
}

// chunkBlocks is how many blocks one read takes: 1 MiB.
const chunkBlocks = 256

// digests hashes the first n blocks of r on all processors.
func digests(ctx context.Context, r io.ReaderAt, n int64, salt []byte) ([]byte, error) {
	out := make([]byte, ceilDiv(n, perBlock)*blockSize)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for first := int64(0); first < n; first += chunkBlocks {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return digestRange(r, first, min(chunkBlocks, n-first), salt, out[first*digestSize:])
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

func digestRange(r io.ReaderAt, first, n int64, salt, out []byte) error {
	buf := make([]byte, n*blockSize)
	if got, err := r.ReadAt(buf, first*blockSize); got < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read blocks from %d on: %w", first, err)
	}
	h := sha256.New()
	for i := range n {
		h.Reset()
		h.Write(salt)
		h.Write(buf[i*blockSize:][:blockSize])
		h.Sum(out[i*digestSize:][:0])
	}
	return nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
