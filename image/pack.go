package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/waysideos/wayside/image/bmap"
	"github.com/waysideos/wayside/image/keys"
)

// PackedSuffix of an image that is compressed, "NAME.img.zst".
const PackedSuffix = ".zst"

// Packed says what Pack wrote, all beside the image.
type Packed struct {
	Path      string `json:"path"`      // the compressed image
	BlockMap  string `json:"block_map"` // docs/formats/packed-image.md has the formats
	Sums      string `json:"sums"`
	Signature string `json:"signature"`
	Size      int64  `json:"size_bytes"` // of the compressed image
}

// Pack compresses an image and writes what goes with it: block map, checksums
// and their signature by the key that signs images. Equal images give equal
// files on every machine.
func Pack(ctx context.Context, img string, key keys.Pair) (Packed, error) {
	p := Packed{Path: img + PackedSuffix, BlockMap: img + bmap.Suffix, Sums: Beside(img, SumsSuffix), Signature: Beside(img, SignatureSuffix)}
	f, err := os.Open(img)
	if err != nil {
		return p, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return p, err
	}
	used, err := Used(f, info.Size())
	if err != nil {
		return p, fmt.Errorf("pack %s: %w", img, err)
	}
	m, err := bmap.New(f, info.Size(), used)
	if err != nil {
		return p, fmt.Errorf("pack %s: %w", img, err)
	}
	plain, packed := sha256.New(), sha256.New()
	err = replaceFile(p.Path, func(w io.Writer) error {
		counted := &counter{w: io.MultiWriter(w, packed)}
		err := compress(ctx, counted, io.TeeReader(io.NewSectionReader(f, 0, info.Size()), plain))
		p.Size = counted.n
		return err
	})
	if err != nil {
		return p, fmt.Errorf("pack %s: %w", img, err)
	}
	text := m.Encode()
	if err := replaceFile(p.BlockMap, write(text)); err != nil {
		return p, err
	}
	mapSum := sha256.Sum256(text)
	var sums bytes.Buffer
	for _, s := range []struct {
		sum  []byte
		file string
	}{{plain.Sum(nil), img}, {mapSum[:], p.BlockMap}, {packed.Sum(nil), p.Path}} {
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(s.sum), filepath.Base(s.file))
	}
	signature, err := signSums(sums.Bytes(), key)
	if err != nil {
		return p, err
	}
	if err := replaceFile(p.Signature, write(signature)); err != nil {
		return p, err
	}
	return p, replaceFile(p.Sums, write(sums.Bytes()))
}

func write(data []byte) func(io.Writer) error {
	return func(w io.Writer) error { _, err := w.Write(data); return err }
}

// replaceFile writes a file under another name first.
func replaceFile(name string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

const (
	// packWindow is the largest that decompressors take unasked (zstd's
	// command line and libarchive: 2^27). It spans kernel image and root.
	packWindow = 128 << 20
	packChunk  = 1 << 20
)

// compress writes zstd frames (RFC 8878): one for each stretch with data, and
// one for the zeros between two, which an encoder would take long over.
func compress(ctx context.Context, w io.Writer, r io.Reader) error {
	enc, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithWindowSize(packWindow), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	buf, zero := make([]byte, packChunk), make([]byte, packChunk)
	zeros, open := int64(0), false
	// end closes the frame that is open: of data, or of zeros.
	end := func() (err error) {
		if open {
			err = enc.Close()
			open = false
		} else if zeros > 0 {
			_, err = w.Write(zeroFrame(zeros))
			zeros = 0
		}
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			hole := bytes.Equal(buf[:n], zero[:n])
			if hole == open {
				if err := end(); err != nil {
					return err
				}
			}
			if hole {
				zeros += int64(n)
			} else {
				if !open {
					enc.Reset(w)
					open = true
				}
				if _, err := enc.Write(buf[:n]); err != nil {
					return err
				}
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return end()
		default:
			return err
		}
	}
}

// zeroFrame is a frame of n zeros, in blocks of one repeated byte.
func zeroFrame(n int64) []byte {
	const block = 128 << 10
	le := binary.LittleEndian
	// Magic number, descriptor (content size in 8 bytes), window of 128 KiB.
	f := append(le.AppendUint32(nil, 0xfd2fb528), 3<<6, (17-10)<<3)
	f = le.AppendUint64(f, uint64(n))
	for n > 0 {
		size := min(n, block)
		n -= size
		head := uint32(size)<<3 | 1<<1 // repeated
		if n == 0 {
			head |= 1 // the last
		}
		f = append(f, byte(head), byte(head>>8), byte(head>>16), 0)
	}
	return f
}
