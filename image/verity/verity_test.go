package verity_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/verity"
)

const block = 4096

var params = verity.Params{
	UUID: [16]byte{0x1b, 0xa9, 0x7d, 0xc3, 0x2c, 0x44, 0x8f, 0xd7, 0x87, 0x36, 1, 2, 3, 4, 5, 6},
	Salt: bytes.Repeat([]byte{0xa5}, 32),
}

// slot writes a slot of n data blocks into a file.
func slot(t *testing.T, n int64) (*os.File, verity.Tree) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "slot"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(imagetest.Noise(t, int(n)*block)); err != nil {
		t.Fatal(err)
	}
	tree, err := verity.Append(t.Context(), f, n, params)
	if err != nil {
		t.Fatal(err)
	}
	return f, tree
}

// One block has no tree; 128 fill one block of digests, 129 do not fit in
// it; 128·128+1 need three levels.
var sizes = []int64{1, 2, 128, 129, 300, 128*128 + 1}

func TestEqualsVeritysetup(t *testing.T) {
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			f, tree := slot(t, n)
			ours, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			theirs := filepath.Join(t.TempDir(), "slot")
			if err := os.WriteFile(theirs, ours[:n*block], 0o644); err != nil {
				t.Fatal(err)
			}
			offset := fmt.Sprint("--hash-offset=", n*block)
			out := imagetest.Run(t, "veritysetup", "format", theirs, theirs, offset, fmt.Sprint("--data-blocks=", n),
				"--salt="+hex.EncodeToString(params.Salt), "--uuid=1ba97dc3-2c44-8fd7-8736-010203040506")
			if want := hex.EncodeToString(tree.RootHash); !strings.Contains(out, want) {
				t.Errorf("veritysetup printed another root hash than %s:\n%s", want, out)
			}
			want, err := os.ReadFile(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ours, want) {
				t.Errorf("the slot differs from veritysetup's (%d and %d bytes)", len(ours), len(want))
			}
			imagetest.Run(t, "veritysetup", "verify", f.Name(), f.Name(), hex.EncodeToString(tree.RootHash), offset)
		})
	}
}

func TestSizeIsWhatAppendWrites(t *testing.T) {
	for _, n := range sizes {
		f, tree := slot(t, n)
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if got := verity.Size(n); got != tree.Size || got != info.Size() {
			t.Errorf("%d blocks: Size says %d, Append %d, the file has %d", n, got, tree.Size, info.Size())
		}
	}
}

func TestVerifyNamesTheAlteredBlock(t *testing.T) {
	const n = 300
	f, tree := slot(t, n)
	if err := verity.Verify(t.Context(), f, n, tree.RootHash); err != nil {
		t.Fatalf("unaltered slot: %v", err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 4095, 4096, 17 * block, n*block - 1, (n + 1) * block, (n+2)*block + 5, (n+5)*block - 1} {
		bad := bytes.Clone(data)
		bad[at] ^= 0x20
		err := verity.Verify(t.Context(), bytes.NewReader(bad), n, tree.RootHash)
		var corrupt *verity.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Block != at/block {
			t.Errorf("byte %d altered: got %v, want a CorruptError at block %d", at, err, at/block)
		}
	}
	for at := int64(n * block); at < (n+1)*block; at += 61 { // the superblock and its padding
		bad := bytes.Clone(data)
		bad[at] ^= 0x01
		err := verity.Verify(t.Context(), bytes.NewReader(bad), n, tree.RootHash)
		if inUUID := at-n*block >= 16 && at-n*block < 32; err == nil && !inUUID {
			t.Errorf("byte %d of the superblock altered, and nothing said", at-n*block)
		}
	}
}

func TestVerifyRefusesAnotherRootHash(t *testing.T) {
	for _, n := range []int64{1, 2, 200} {
		f, tree := slot(t, n)
		tree.RootHash[31] ^= 1
		if err := verity.Verify(t.Context(), f, n, tree.RootHash); err == nil {
			t.Errorf("%d blocks: another root hash was accepted", n)
		}
	}
}

func TestVerifyOfAShortSlot(t *testing.T) {
	f, tree := slot(t, 10)
	if err := f.Truncate(verity.Size(10) - 1); err != nil {
		t.Fatal(err)
	}
	if err := verity.Verify(t.Context(), f, 10, tree.RootHash); err == nil {
		t.Error("a slot that ends within its tree was accepted")
	}
}

func FuzzReadParams(f *testing.F) {
	sb := make([]byte, 2*block)
	copy(sb[block:], "verity\x00\x00\x01\x00\x00\x00\x01")
	f.Add(sb)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := verity.ReadParams(bytes.NewReader(data), 1)
		if err == nil && len(p.Salt) > 256 {
			t.Errorf("salt of %d bytes", len(p.Salt))
		}
	})
}
