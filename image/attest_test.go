package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/layout"
)

// What is in the image and what lies beside it speak of the same parts, and of
// the bytes that the image holds.
func TestAttestations(t *testing.T) {
	in := input(t)
	in.Source = attest.Source{URI: "https://example.org/src", Commit: "0123456789012345678901234567890123456789"}
	f, res := build(t, in, t.TempDir())
	c, err := image.Open(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	sbom, err := os.ReadFile(res.SBOM)
	if err != nil || !bytes.Equal(sbom, c.SBOM) {
		t.Errorf("SBOM inside and beside differ (%v)", err)
	}
	parts, err := attest.ReadSPDX(sbom)
	if err != nil || len(parts) < 2 || parts[0].Name != "linux-image-test" || parts[1].Name != "stdlib" {
		t.Errorf("SBOM names %+v, %v", parts, err)
	}
	program, err := os.ReadFile(in.Init)
	if err != nil {
		t.Fatal(err)
	}
	subjects := func(envelope []byte) map[string]string {
		t.Helper()
		statement, err := attest.Verify(envelope, in.Keys.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(statement, []byte("git+https://example.org/src")) {
			t.Errorf("the statement does not name the source: %s", statement)
		}
		all, err := attest.Subjects(statement)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, s := range all {
			m[s.Name] = s.Hex
		}
		return m
	}
	want := map[string]string{"init": sha(program), "waysided": sha(program)}
	if diff := cmp.Diff(want, subjects(c.Provenance)); diff != "" {
		t.Errorf("subjects inside (-want +got):\n%s", diff)
	}
	outside, err := os.ReadFile(res.Provenance)
	if err != nil {
		t.Fatal(err)
	}
	got := subjects(outside)
	if got["wayside-1.0.0.efi"] != sha(c.UKI) || got["root"] != res.RootHash || got["BOOTX64.EFI"] == "" {
		t.Errorf("subjects beside: %v; want kernel image %s, root %s and the loader", got, sha(c.UKI), res.RootHash)
	}
	if _, err := attest.Verify(outside, imagetest.Keys(t).Cert); err == nil {
		t.Error("another's certificate verifies the provenance")
	}
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestOpen(t *testing.T) {
	in := input(t)
	in.Counter, in.UpdateRoot = 42, []byte(`{"signed": {}}`)
	f, res := build(t, in, t.TempDir())
	c, err := image.Open(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	if c.Release.Counter != 42 || c.Release.Version != "1.0.0" || hex.EncodeToString(c.RootHash) != res.RootHash {
		t.Errorf("got release %+v with root hash %x", c.Release, c.RootHash)
	}
	if !bytes.Equal(c.UpdateRoot, in.UpdateRoot) {
		t.Errorf("update root: got %s", c.UpdateRoot)
	}
	root, err := io.ReadAll(c.Root)
	if err != nil || int64(len(root)) != (c.DataBlocks+1)*layout.VerityBlock || !bytes.HasPrefix(root[len(root)-layout.VerityBlock:], []byte("verity")) {
		t.Errorf("root of %d bytes (%v) does not end with the verity superblock", len(root), err)
	}
	if c.RootBytes != res.RootBytes || len(c.UKI) != int(res.UKIBytes) {
		t.Errorf("sizes %d and %d, the build said %d and %d", c.RootBytes, len(c.UKI), res.RootBytes, res.UKIBytes)
	}
}
