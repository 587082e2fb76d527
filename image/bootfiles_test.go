package image_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/rootfs"
	"github.com/waysideos/wayside/image/uki"
)

// ubootInput is the input of a board that U-Boot starts.
func ubootInput(t *testing.T) image.Input {
	in := input(t)
	kernel := imagetest.Kernel(t)
	kernel["usr/lib/linux-image-"+imagetest.KernelRelease+"/acme/one.dtb"] = &fstest.MapFile{Data: []byte("tree one")}
	kernel["usr/lib/linux-image-"+imagetest.KernelRelease+"/acme/two.dtb"] = &fstest.MapFile{Data: []byte("tree two")}
	in.Kernel = kernel
	in.Board.Boot = layout.BootUBoot
	in.Board.DeviceTrees = []string{"acme/one.dtb", "acme/two.dtb"}
	in.Board.BootFiles = []boards.BootFiles{{Package: "firmware", From: "lib", Files: []string{"start.elf", "u-boot.bin"}}}
	in.Boot = []fs.FS{fstest.MapFS{
		"lib/start.elf": {Data: []byte("firmware")}, "lib/u-boot.bin": {Data: []byte("U-Boot 2025")}, "usr/share/doc/firmware/copyright": {Data: []byte("theirs")},
	}}
	return in
}

func TestUBootImage(t *testing.T) {
	in := ubootInput(t)
	f, res := build(t, in, t.TempDir())
	if err := image.Verify(f, res.Size, in.Keys.Cert); err != nil {
		t.Fatal(err)
	}
	table, err := disk.ReadGPT(f, res.Size)
	if err != nil || !table.Hybrid {
		t.Errorf("hybrid %v, %v: the boot ROM finds no boot partition", table.Hybrid, err)
	}
	c, err := image.Open(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	sections, err := uki.Sections(c.UKI)
	if err != nil {
		t.Fatal(err)
	}
	var trees []string
	for _, s := range sections {
		if s.Name == uki.DTBAuto {
			trees = append(trees, string(s.Data))
		}
	}
	if strings.Join(trees, ", ") != "tree one, tree two" || !strings.Contains(string(uki.Find(sections, uki.Cmdline)), "wayside.boot=u-boot") {
		t.Errorf("the kernel image has the trees %q and the command line %q", trees, uki.Find(sections, uki.Cmdline))
	}
	root, err := rootfs.Open(c.Root)
	if err != nil {
		t.Fatal(err)
	}
	carried := strings.TrimPrefix(layout.RootLoader, "/")
	if got := content(root, carried+"/u-boot.bin"); got != "U-Boot 2025" || content(root, carried+"/"+layout.ESPBootScript) == "" || content(root, carried+"/start.elf") != "" {
		t.Errorf("the root carries U-Boot %q, not just it and its script", got)
	}
	again, _ := build(t, in, t.TempDir())
	imagetest.Run(t, "cmp", f.Name(), again.Name())
}

// TestUBootImageAltered: every file beside the kernel image is known by the
// verified root, and so is the record.
func TestUBootImageAltered(t *testing.T) {
	in := ubootInput(t)
	_, res := build(t, in, t.TempDir())
	for _, c := range []struct {
		name, file string
		data       []byte
		want       string
	}{
		{"site profile", layout.ESPSite, []byte("version: 1\nsite: other\n"), ""},
		{"U-Boot's variables", "ubootefi.var", []byte("x"), ""},
		{"firmware", "start.elf", []byte("other"), "start.elf of the boot partition was altered"},
		{"script", layout.ESPBootScript, []byte("reset"), "was altered"},
		{"device tree", "two.dtb", nil, "lacks two.dtb"},
		{"another file", "autoboot.txt", []byte("x"), "no build puts there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "image")
			imagetest.Run(t, "cp", "--sparse=always", res.Path, copied)
			f, part := bootPartition(t, copied, res.Size)
			if err := disk.PutFile(part, part.size, c.file, c.data, time.Unix(1_760_000_000, 0)); err != nil {
				t.Fatal(err)
			}
			wantVerify(t, image.Verify(f, res.Size, in.Keys.Cert), c.want)
		})
	}
	f, part := bootPartition(t, res.Path, res.Size)
	if _, err := part.WriteAt(layout.BootRecord{Sequence: 9, Good: 1, Trial: layout.NoTrial}.Encode(), layout.BootRecordSectors[0]*layout.BootRecordSize); err != nil {
		t.Fatal(err)
	}
	wantVerify(t, image.Verify(f, res.Size, in.Keys.Cert), "boot record")
}

func wantVerify(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got %v, want no error", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want an error with %q", err, want)
	}
}

func TestUBootBoardRefuses(t *testing.T) {
	in := ubootInput(t)
	in.Encrypt = true
	if _, err := (&image.Builder{Input: in}).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "TPM") {
		t.Errorf("encryption: got %v, want an error that there is no TPM", err)
	}
}

// espPart is the boot partition of an image, to read and to write.
type espPart struct {
	io.ReaderAt
	io.WriterAt
	size int64
}

func bootPartition(t *testing.T, name string, size int64) (*os.File, espPart) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	table, err := disk.ReadGPT(f, size)
	if err != nil {
		t.Fatal(err)
	}
	p := table.Partitions[0]
	return f, espPart{io.NewSectionReader(f, p.Start, p.Size), io.NewOffsetWriter(f, p.Start), p.Size}
}
