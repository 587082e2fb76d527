package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/waysideos/wayside/image"
)

// TestImagerList: what Raspberry Pi Imager's schema requires of an entry is
// there, and is what it says of the file.
func TestImagerList(t *testing.T) {
	keyDir, list := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "os_list.json")
	img := testImage(t, keyDir, "1.0", 1)
	if _, err := wayside(t, "publish", "--keys", keyDir, "--imager", list, "--url", "https://example.com/images", img); err == nil {
		t.Error("an image that is not compressed is listed")
	}
	packed := squeeze(t, img)
	if _, err := wayside(t, "publish", "--keys", keyDir, "--imager", list, "--url", "https://example.com/images/", packed); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		OS []map[string]any `json:"os_list"`
	}
	if err := json.Unmarshal(text, &got); err != nil || len(got.OS) != 1 {
		t.Fatalf("%v in %s", err, text)
	}
	plainSize, plainSum := sizeAndSum(t, img)
	size, sum := sizeAndSum(t, packed)
	for key, want := range map[string]any{
		"name": "Wayside 1.0 for test-board", "description": "Kafka at the edge", "icon": "",
		"url":          "https://example.com/images/" + filepath.Base(packed),
		"extract_size": plainSize, "extract_sha256": plainSum,
		"image_download_size": size, "image_download_sha256": sum,
		"release_date": "2025-10-09", "init_format": "none",
	} {
		if v, ok := got.OS[0][key]; !ok || v != want {
			t.Errorf("%s: got %v, want %v", key, v, want)
		}
	}
}

// squeeze compresses an image faster than image.Pack, and worse.
func squeeze(t *testing.T, img string) string {
	t.Helper()
	in, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(img + image.PackedSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, in); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func sizeAndSum(t *testing.T, file string) (size float64, sum string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if sum, err = digestOf(f); err != nil {
		t.Fatal(err)
	}
	n, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	return float64(n), sum
}
