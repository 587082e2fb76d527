package image_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/rootfs"
)

// firmware is a package of which the module snd names one file.
func firmware() fstest.MapFS {
	pkg := fstest.MapFS{"usr/share/doc/firmware-test/copyright": {Data: []byte("may be copied")}}
	for _, name := range []string{"snd.bin", "other.bin", "wifi/a-board.txt", "wifi/b-board.txt"} {
		pkg["usr/lib/firmware/"+name] = &fstest.MapFile{Data: []byte(name)}
	}
	return pkg
}

func TestFirmwareIsSelected(t *testing.T) {
	in := input(t)
	in.Board.Modules.Root = append(in.Board.Modules.Root, "snd")
	in.Board.Firmware.Packages = []string{"firmware-test"}
	in.Board.Firmware.Files = []string{"wifi/b-*"}
	in.Firmware = append(in.Firmware, firmware())
	img, res := build(t, in, t.TempDir())
	root := rootOf(t, img, res)
	for name, want := range map[string]string{
		"usr/lib/firmware/snd.bin": "snd.bin", "usr/lib/firmware/wifi/b-board.txt": "wifi/b-board.txt",
		"usr/share/doc/firmware-test/copyright": "may be copied",
		"usr/lib/firmware/other.bin":            "", "usr/lib/firmware/wifi/a-board.txt": "",
	} {
		if got := content(root, name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

func TestFirmwareOfNoUse(t *testing.T) {
	for what, spoil := range map[string]func(*image.Input){
		"no selected module names a file": func(in *image.Input) {},
		"licence": func(in *image.Input) {
			in.Board.Modules.Root = append(in.Board.Modules.Root, "snd")
			delete(in.Firmware[0].(fstest.MapFS), "usr/share/doc/firmware-test/copyright")
		},
		"0 are given": func(in *image.Input) { in.Firmware = nil },
	} {
		in := input(t)
		in.Board.Modules.Root = slices.Clone(in.Board.Modules.Root)
		in.Board.Firmware.Packages = []string{"firmware-test"}
		in.Firmware = append(in.Firmware, firmware())
		spoil(&in)
		if _, err := (&image.Builder{Input: in}).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want an error with %q", err, what)
		}
	}
}

// rootOf is the root of an image that was built.
func rootOf(t *testing.T, img *os.File, res image.Result) fs.FS {
	t.Helper()
	c, err := image.Open(img, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	root, err := rootfs.Open(c.Root)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// content is a file's content, "" if there is none.
func content(root fs.FS, name string) string {
	data, _ := fs.ReadFile(root, name)
	return string(data)
}
