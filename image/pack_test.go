package image_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/bmap"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/layout"
)

func TestPack(t *testing.T) {
	in := input(t)
	dir := t.TempDir()
	f, res := build(t, in, dir)
	p, err := image.Pack(t.Context(), res.Path, in.Keys)
	if err != nil {
		t.Fatal(err)
	}
	unpacked := filepath.Join(dir, "unpacked.img")
	imagetest.Run(t, "zstd", "-q", "-d", p.Path, "-o", unpacked)
	imagetest.Run(t, "cmp", f.Name(), unpacked)
	if p.Size > 4<<20 {
		t.Errorf("an image with %d bytes in its root is %d bytes when packed", res.RootBytes, p.Size)
	}
	t.Run("again", func(t *testing.T) { packAgain(t, res.Path, p, in) })
	t.Run("by hand", func(t *testing.T) { checkByHand(t, p, in) })
	t.Run("sums", func(t *testing.T) { checkSums(t, res.Path, p, in) })
}

func packAgain(t *testing.T, img string, p image.Packed, in image.Input) {
	before := map[string][]byte{}
	for _, name := range []string{p.Path, p.BlockMap, p.Sums, p.Signature} {
		before[name] = readFile(t, name)
	}
	if _, err := image.Pack(t.Context(), img, in.Keys); err != nil {
		t.Fatal(err)
	}
	for name, want := range before {
		if !bytes.Equal(readFile(t, name), want) {
			t.Errorf("%s differs when the image is packed again", name)
		}
	}
}

// checkByHand does what docs/flashing.md says.
func checkByHand(t *testing.T, p image.Packed, in image.Input) {
	crt := filepath.Join(t.TempDir(), "db.crt")
	pub := filepath.Join(t.TempDir(), "db.pub")
	if err := os.WriteFile(crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: in.Keys.Cert.Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	imagetest.Run(t, "openssl", "x509", "-in", crt, "-pubkey", "-noout", "-out", pub)
	out := imagetest.Run(t, "openssl", "dgst", "-sha256", "-verify", pub, "-signature", p.Signature, p.Sums)
	if !strings.Contains(out, "Verified OK") {
		t.Errorf("openssl says %q", out)
	}
}

func checkSums(t *testing.T, img string, p image.Packed, in image.Input) {
	for _, name := range []string{img, p.Path} {
		if err := image.CheckSums(name, in.Keys.Cert); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := image.CheckSums(p.Path, imagetest.Keys(t).Cert); err == nil {
		t.Error("sums are believed that another key has signed")
	}
	if err := image.CheckSums(p.Path); err == nil {
		t.Error("sums are believed without a certificate")
	}
	for _, name := range []string{p.Path, p.Sums} {
		data := readFile(t, name)
		if err := os.WriteFile(name, append([]byte{data[0] ^ 1}, data[1:]...), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := image.CheckSums(p.Path, in.Keys.Cert); err == nil {
			t.Errorf("%s was altered, and nobody saw it", name)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// An image of which only the blocks of its map are there is the image, on a
// disk full of rubbish too.
func TestUsedIsEnough(t *testing.T) {
	f, res := build(t, input(t), t.TempDir())
	if err := image.PutFile(f.Name(), layout.ESPSite, []byte("version: 1\nsite: another\n")); err != nil {
		t.Fatal(err)
	}
	used, err := image.Used(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bmap.New(f, res.Size, used)
	if err != nil {
		t.Fatal(err)
	}
	var mapped int64
	disk := filepath.Join(t.TempDir(), "disk")
	out, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	rubbish := bytes.Repeat([]byte{0xa5}, 1<<20)
	for at := int64(0); at < res.Size; at += 1 << 20 {
		if at > 8<<20 && at < 250<<20 || at > 300<<20 && at < 1000<<20 {
			continue // a disk of zeros there, to save time
		}
		if _, err := out.WriteAt(rubbish, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range m.Ranges {
		mapped += r.Size
		if _, err := io.Copy(io.NewOffsetWriter(out, r.Off), io.NewSectionReader(f, r.Off, r.Size)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := image.Inspect(out, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Run(t, "fsck.vfat", "-n", cut(t, out, report.Partitions[0]))
	slot := cut(t, out, report.Partitions[1])
	imagetest.Run(t, "veritysetup", "verify", slot, slot, res.RootHash, fmt.Sprint("--hash-offset=", report.Root.Bytes))
	if mapped > 24<<20 {
		t.Errorf("%d bytes of an image with a root of %d count as used", mapped, res.RootBytes)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
