package bmap

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/imagetest"
)

const block = flash.Block

// sample is an image of 100 blocks and a bit, of which three ranges matter.
func sample(t testing.TB) ([]byte, []flash.Range) {
	t.Helper()
	img := make([]byte, 100*block+512)
	used := []flash.Range{{Off: 0, Size: 2 * block}, {Off: 50 * block, Size: block}, {Off: 99 * block, Size: block + 512}}
	for _, r := range used {
		copy(img[r.Off:r.End()], imagetest.Noise(t, int(r.Size)))
	}
	return img, used
}

func TestRoundTrip(t *testing.T) {
	img, used := sample(t)
	m, err := New(bytes.NewReader(img), int64(len(img)), used)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	img, used := sample(t)
	m, err := New(bytes.NewReader(img), int64(len(img)), used)
	if err != nil {
		t.Fatal(err)
	}
	text := string(m.Encode())
	for name, bad := range map[string]string{
		"nothing":           "",
		"another version":   strings.Replace(text, `version="2.0"`, `version="3.0"`, 1),
		"an altered range":  strings.Replace(text, "> 50 <", "> 51 <", 1),
		"another kind":      strings.Replace(text, " sha256 ", " sha1 ", 1),
		"a cut map":         text[:len(text)/2],
		"an altered digest": strings.Replace(text, `chksum="`, `chksum="0`, 1),
	} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// bmaptool copies by our map, checks the sums in it, and we read the map that
// it makes itself.
func TestBmaptool(t *testing.T) {
	img, used := sample(t)
	dir := t.TempDir()
	file, out := filepath.Join(dir, "disk.img"), filepath.Join(dir, "out")
	m, err := New(bytes.NewReader(img), int64(len(img)), used)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{file: img, file + Suffix: m.Encode()} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	imagetest.Run(t, "bmaptool", "copy", file, out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, img) {
		t.Errorf("bmaptool copied %d bytes, %v; want the image's %d as they are", len(got), err, len(img))
	}
	m.Ranges[1].SHA256 = m.Ranges[0].SHA256
	if err := os.WriteFile(file+Suffix, m.Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := imagetest.TryRun(t, "bmaptool", "copy", file, out); err == nil {
		t.Errorf("bmaptool takes a wrong sum: it does not check ours\n%s", text)
	}
	theirs := filepath.Join(dir, "theirs")
	imagetest.Run(t, "bmaptool", "create", "-o", theirs, file)
	data, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(data); err != nil || got.Size != int64(len(img)) || len(got.Ranges) == 0 {
		t.Errorf("bmaptool's own map: got %+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	img, used := sample(f)
	m, err := New(bytes.NewReader(img), int64(len(img)), used)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		for _, r := range m.Ranges {
			if r.Off < 0 || r.Size <= 0 || r.End() > m.Size {
				t.Errorf("range %v of an image of %d bytes", r, m.Size)
			}
		}
	})
}
