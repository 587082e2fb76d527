package main

import (
	"bytes"
	"encoding/json"
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
	signer, err := keysFolder(t, keyDir).Pair("db")
	if err != nil {
		t.Fatal(err)
	}
	packed, err := image.Pack(t.Context(), img, signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wayside(t, "publish", "--keys", keyDir, "--imager", list, "--url", "https://example.com/images/", packed.Path); err != nil {
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
	file, err := os.ReadFile(packed.Path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) string {
		s, _ := digestOf(bytes.NewReader(b))
		return s
	}
	for key, want := range map[string]any{
		"name": "Wayside 1.0 for test-board", "description": "Kafka at the edge", "icon": "",
		"url":          "https://example.com/images/" + filepath.Base(packed.Path),
		"extract_size": float64(len(plain)), "extract_sha256": sum(plain),
		"image_download_size": float64(len(file)), "image_download_sha256": sum(file),
		"release_date": "2025-10-09", "init_format": "none",
	} {
		if v, ok := got.OS[0][key]; !ok || v != want {
			t.Errorf("%s: got %v, want %v", key, v, want)
		}
	}
}
