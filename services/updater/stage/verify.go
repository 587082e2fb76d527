package stage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/waysideos/wayside/image/verity"
)

// verifyRoot computes the hash tree over what the disk gives back and compares
// its root with the signed one, then reads tree and data once more.
func (j *Job) verifyRoot(ctx context.Context, p *Progress) error {
	j.Step("verifying the system", 0, 0)
	wrong := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.Root = 0
		return j.again(p, err)
	}
	want, err := hex.DecodeString(j.Target.RootHash)
	if err != nil {
		return err
	}
	if err := j.Slot.settle(); err != nil {
		return wrong(err)
	}
	params, err := verity.ReadParams(j.Slot, j.Target.DataBlocks)
	if err != nil {
		return wrong(fmt.Errorf("%w: %v", ErrContent, err))
	}
	tree, err := verity.Append(ctx, j.Slot, j.Target.DataBlocks, params)
	if err != nil {
		return wrong(fmt.Errorf("write the hash tree: %w", err))
	}
	if !bytes.Equal(tree.RootHash, want) {
		return wrong(fmt.Errorf("%w: the system has root hash %x", ErrContent, tree.RootHash))
	}
	if err := j.Slot.settle(); err != nil {
		return wrong(err)
	}
	if err := verity.Verify(ctx, j.Slot, j.Target.DataBlocks, want); err != nil {
		return wrong(fmt.Errorf("read the slot back: %w", err))
	}
	return nil
}

// verifyKernel reads the kernel image back from the disk.
func (j *Job) verifyKernel(p *Progress) error {
	j.Step("verifying the kernel image", 0, 0)
	sum := sha256.New()
	in := io.NewSectionReader(j.Slot, j.Slot.kernelAt(), j.UKI.Length)
	if _, err := io.CopyBuffer(sum, onlyReader{in}, make([]byte, bufSize)); err != nil {
		p.UKIBytes = 0
		return j.again(p, fmt.Errorf("read the kernel image back: %w", err))
	}
	if [sha256.Size]byte(sum.Sum(nil)) != j.UKI.SHA256 {
		p.UKIBytes = 0
		return j.again(p, fmt.Errorf("%w: the kernel image has another hash", ErrContent))
	}
	return nil
}
