package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/services/updater/drivers"
)

// TestDriversOfAnImage: the updater finds the modules of a release, in its root
// and in its initramfs, in what the build makes.
func TestDriversOfAnImage(t *testing.T) {
	img, err := os.Open(testImage(t, filepath.Join(t.TempDir(), "keys"), "1.0", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	size, err := imageSize(img)
	if err != nil {
		t.Fatal(err)
	}
	c, err := image.Open(img, size)
	if err != nil {
		t.Fatal(err)
	}
	next := drivers.Release{Root: c.Root, UKI: bytes.NewReader(c.UKI)}
	for _, tt := range []struct{ modalias, module, want string }{
		{"virtio:d00000002v00001AF4", "virtio_blk", ""},
		{"virtio:d00000099v00001AF4", "virtio_odd", "the start from vda1 (virtio:d00000099v00001AF4, whose driver is virtio_odd)"},
	} {
		running := fstest.MapFS{}
		for name, text := range map[string]string{"modules.alias": "alias " + tt.modalias + " " + tt.module + "\n", "modules.dep": "", "modules.builtin": "", "modules.builtin.alias": ""} {
			running["usr/lib/modules/6.1/"+name] = &fstest.MapFile{Data: []byte(text)}
		}
		lost, err := drivers.Machine{Sys: diskBy(t, tt.modalias, tt.module), Root: running}.Lost(next, "vda1")
		got := ""
		if len(lost) > 0 {
			got = lost[len(lost)-1].String()
		}
		if err != nil || got != tt.want {
			t.Errorf("a disk by %s: got %q, %v; want %q", tt.module, got, err, tt.want)
		}
	}
}

// diskBy is the sysfs of a machine with one disk.
func diskBy(t *testing.T, modalias, module string) string {
	t.Helper()
	sys := t.TempDir()
	disk, driver := filepath.Join(sys, "devices/disk"), filepath.Join(sys, "drivers", module)
	for _, dir := range []string{filepath.Join(disk, "block/vda/vda1"), filepath.Join(sys, "class/block"), driver, filepath.Join(sys, "module", module)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		filepath.Join(sys, "class/block/vda1"): filepath.Join(disk, "block/vda/vda1"),
		filepath.Join(disk, "driver"):          driver,
		filepath.Join(driver, "module"):        filepath.Join(sys, "module", module),
	} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(disk, "modalias"), []byte(modalias+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return sys
}
