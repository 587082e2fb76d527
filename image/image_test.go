package image_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/rootfs"
)

const unit = "[Unit]\nDescription=Kafka broker\n\n[Service]\nExecStart=/usr/bin/waysided broker\n"

func input(t testing.TB) image.Input {
	t.Helper()
	binary := imagetest.Binary(t)
	return image.Input{
		Version: "1.0.0", Epoch: 1_760_000_000, Board: imagetest.Board(),
		Kernel: imagetest.Kernel(t), Loader: imagetest.Loader(),
		Packages: []image.Package{{Name: "linux-image-test", Version: "6.0.0-1", Arch: "amd64", SHA256: strings.Repeat("00", 32)}},
		Init:     binary, Services: binary,
		Overlays: []rootfs.Entry{
			rootfs.Bytes(layout.RootUnits+"/broker.service", 0o644, []byte(unit)),
			rootfs.Bytes("/etc/filler", 0o644, bytes.Repeat([]byte("0123456789abcdef"), 100_000)),
		},
		Site: []byte("version: 1\nsite: shop\n"), Keys: imagetest.Keys(t), CacheDir: t.TempDir(),
	}
}

func build(t testing.TB, in image.Input, dir string) (*os.File, image.Result) {
	t.Helper()
	b := image.Builder{Input: in}
	res, err := b.Build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, res
}

// The promise of the builder: nothing but its inputs shows in the image.
func TestTwoBuildsAreEqual(t *testing.T) {
	in := input(t)
	first, firstRes := build(t, in, filepath.Join(t.TempDir(), "a"))
	old := syscall.Umask(0o077)
	local := time.Local
	t.Cleanup(func() { syscall.Umask(old); time.Local = local })
	time.Local = time.FixedZone("elsewhere", 11*3600)
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	in.CacheDir = t.TempDir()
	second, res := build(t, in, filepath.Join(t.TempDir(), "another", "folder"))
	imagetest.Run(t, "cmp", first.Name(), second.Name())
	imagetest.Run(t, "cmp", firstRes.SBOM, res.SBOM)
	imagetest.Run(t, "cmp", firstRes.Provenance, res.Provenance)
	info, err := second.Stat()
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode of the image: %v, %v; want 0644 whatever the umask", info.Mode(), err)
	}
	if res.Stored > 16<<20 {
		t.Errorf("the image takes %d bytes on the disk, its holes should take none", res.Stored)
	}
}

func TestImageForeignCheck(t *testing.T) {
	f, res := build(t, input(t), t.TempDir())
	report, err := image.Inspect(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	if out := imagetest.Run(t, "sgdisk", "--verify", f.Name()); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk --verify:\n%s", out)
	}
	part := func(i int) string { return cut(t, f, report.Partitions[i]) }
	imagetest.Run(t, "fsck.vfat", "-n", part(0))
	slot := part(1)
	imagetest.Run(t, "fsck.erofs", slot)
	imagetest.Run(t, "veritysetup", "verify", slot, slot, res.RootHash, fmt.Sprint("--hash-offset=", report.Root.Bytes))
}

// cut copies a partition into a sparse file of its own.
func cut(t *testing.T, img *os.File, p disk.Partition) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), p.Name)
	imagetest.Run(t, "dd", "if="+img.Name(), "of="+name, "bs=1M", "conv=sparse",
		fmt.Sprint("skip=", p.Start>>20), fmt.Sprint("count=", p.Size>>20))
	return name
}

// flipped shows an image with one byte altered.
type flipped struct {
	io.ReaderAt
	at int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 0x08
	}
	return n, err
}

// find returns where in the image some bytes lie that occur once.
func find(t *testing.T, img []byte, what string) int64 {
	t.Helper()
	at := bytes.Index(img, []byte(what))
	if at < 0 || bytes.Contains(img[at+1:], []byte(what)) {
		t.Fatalf("%q occurs not once in the image", what)
	}
	return int64(at)
}

func TestVerifyRefusesAlteredImages(t *testing.T) {
	in := input(t)
	f, res := build(t, in, t.TempDir())
	if err := image.Verify(f, res.Size, in.Keys.Cert); err != nil {
		t.Fatalf("unaltered image: %v", err)
	}
	head, err := io.ReadAll(io.NewSectionReader(f, 0, 32<<20)) // all of the boot partition that is in use
	if err != nil {
		t.Fatal(err)
	}
	report, err := image.Inspect(f, res.Size)
	if err != nil {
		t.Fatal(err)
	}
	slot := report.Partitions[1].Start
	loader, uki := find(t, head, "the boot loader"), find(t, head, "the stub")
	cases := []struct {
		what string
		at   int64
		want string // in the error
	}{
		{"boot program", 3, "first sector"},
		{"partition table", 512 + 60, "GPT"},
		{"backup partition table", res.Size - 512 + 60, "GPT"},
		{"guard", find(t, head, "w\x00a\x00y\x00s\x00i\x00d\x00e\x00:\x00"), "EFI/BOOT/BOOTX64.EFI"},
		{"boot loader, code", loader, "EFI/systemd/systemd-bootx64.efi"},
		{"boot loader, header", loader - 1024 + 0x40 + 8, "EFI/systemd/systemd-bootx64.efi"},
		{"loader configuration", find(t, head, "timeout 0"), "loader.conf"},
		{"kernel image, stub", uki, "EFI/Linux/wayside-1.0.0.efi"},
		{"kernel image, command line", find(t, head, "wayside.roothash"), "EFI/Linux/wayside-1.0.0.efi"},
		{"kernel image, kernel", uki + 8000, "EFI/Linux/wayside-1.0.0.efi"},
		{"kernel image, signature", uki - 1024 + res.UKIBytes - 100, "EFI/Linux/wayside-1.0.0.efi"},
		{"root, first byte", slot, "block 0 "},
		{"root, file", slot + 5*4096 + 77, "block 5 "},
		{"root, verity superblock", slot + report.Root.Bytes + 20, "slot root-a"},
		{"root, verity salt", slot + report.Root.Bytes + 90, "hash tree"},
		{"root, hash tree", slot + res.RootBytes - 4000, "hash tree"},
		{"root, behind the tree", slot + res.RootBytes + 5, "not zero"},
		{"root, end of the slot", slot + report.Partitions[1].Size - 1, "not zero"},
	}
	for _, c := range cases {
		err := image.Verify(flipped{f, c.at}, res.Size, in.Keys.Cert)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s altered at %d: got %v, want an error with %q", c.what, c.at, err, c.want)
		}
	}
	// And a good many bytes of the programs and the root, wherever they fall.
	for at := loader - 1024; at < loader-1024+1500; at += 37 {
		mustRefuse(t, f, res.Size, at, in.Keys.Cert)
	}
	for at := uki - 1024; at < uki-1024+res.UKIBytes; at += res.UKIBytes / 60 {
		mustRefuse(t, f, res.Size, at, in.Keys.Cert)
	}
	for at := slot; at < slot+res.RootBytes; at += res.RootBytes / 60 {
		mustRefuse(t, f, res.Size, at, in.Keys.Cert)
	}
}

func mustRefuse(t *testing.T, img io.ReaderAt, size, at int64, cert *x509.Certificate) {
	t.Helper()
	if err := image.Verify(flipped{img, at}, size, cert); err == nil {
		t.Errorf("byte %d of the image altered, and nothing said", at)
	}
}

func TestVerifyRefusesOtherKeysAndFiles(t *testing.T) {
	in := input(t)
	f, res := build(t, in, t.TempDir())
	if err := image.Verify(f, res.Size, imagetest.Keys(t).Cert); err == nil || !strings.Contains(err.Error(), "signed by none") {
		t.Errorf("another certificate: got %v", err)
	}
	if err := image.Verify(f, res.Size); err == nil {
		t.Error("no certificate at all: accepted")
	}
	put := func(name string, data []byte) error {
		return image.PutFile(f.Name(), name, data)
	}
	if err := put(layout.ESPSite, []byte("version: 1\nsite: other\n")); err != nil {
		t.Fatal(err)
	}
	if err := image.Verify(f, res.Size, in.Keys.Cert); err != nil {
		t.Errorf("another site profile: %v; it is the owner's to change", err)
	}
	if err := put("loader/entries/evil.conf", []byte("linux /evil\n")); err != nil {
		t.Fatal(err)
	}
	if err := image.Verify(f, res.Size, in.Keys.Cert); err == nil || !strings.Contains(err.Error(), "evil.conf") {
		t.Errorf("a boot entry more: got %v, want an error that names it", err)
	}
}

func TestInspect(t *testing.T) {
	in := input(t)
	f, res := build(t, in, t.TempDir())
	r, err := image.Inspect(f, res.Size, in.Keys.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 {
		t.Errorf("problems: %q", r.Problems)
	}
	var text bytes.Buffer
	if err := r.Print(&text); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1.0.0", "test-board", "EFI/Linux/wayside-1.0.0.efi", imagetest.KernelRelease, res.RootHash, "Wayside development db",
		"linux-image-test", "wayside-root-a", layout.TypeESP, "Kafka broker", "wayside/site.yaml", "console=ttyS0",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, text.String())
		}
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("the report as JSON does not say %q", want)
		}
	}
	if got := strings.Count(text.String(), ", valid\n"); got != 4 {
		t.Errorf("%d valid signatures shown, want those of guard, loader, kernel and provenance:\n%s", got, text.String())
	}
	if r.Root.Modules != 8 || r.Root.Units != 1 {
		t.Errorf("the root holds %d modules and %d services, want 8 and 1", r.Root.Modules, r.Root.Units)
	}
}

func TestPlan(t *testing.T) {
	in := input(t)
	b := image.Builder{Input: in}
	p, err := b.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "wayside-test-board-1.0.0" || p.Release.Kernel != imagetest.KernelRelease || p.Release.Services["broker"] != "Kafka broker" {
		t.Errorf("plan: %+v", p)
	}
	if last := p.Cmdline[len(p.Cmdline)-1]; last != "console=ttyS0" {
		t.Errorf("the command line ends with %q; the board's console must be last", last)
	}
	want := []string{"kernel/crypto/crc-generic.ko", "kernel/drivers/block/virtio_blk.ko", "kernel/fs/erofs/erofs.ko", "kernel/lib/libcrc.ko"}
	if !slices.Equal(p.InitramfsModules, want) {
		t.Errorf("initramfs modules %q, want %q", p.InitramfsModules, want)
	}
	for _, m := range want {
		if !slices.Contains(p.RootModules, m) {
			t.Errorf("the root lacks %s, which the initramfs has", m)
		}
	}
	var text bytes.Buffer
	if err := b.Explain(t.Context(), &text); err != nil || !strings.Contains(text.String(), "virtio_blk") {
		t.Errorf("Explain: %v\n%s", err, text.String())
	}
}

func TestPlanRefuses(t *testing.T) {
	good := input(t)
	for name, c := range map[string]struct {
		change func(*image.Input)
		want   string
	}{
		"version for no file name": {func(in *image.Input) { in.Version = "1.0+3" }, "version"},
		"name with a folder":       {func(in *image.Input) { in.Name = "../x" }, "name"},
		"no key":                   {func(in *image.Input) { in.Keys.Key = nil }, "key"},
		"unknown module":           {func(in *image.Input) { in.Board.Modules.Root = []string{"nosuch"} }, "nosuch"},
		"unknown architecture":     {func(in *image.Input) { in.Board.Arch = "riscv64" }, "riscv64"},
		"loader for another":       {func(in *image.Input) { in.Loader = armLoader() }, "amd64"},
		"no init":                  {func(in *image.Input) { in.Init = "/nonexistent" }, "nonexistent"},
		"bad unit": {func(in *image.Input) {
			in.Overlays = []rootfs.Entry{rootfs.Bytes(layout.RootUnits+"/x.service", 0o644, []byte("[Service]\nNoSuchKey=1\n"))}
		}, "NoSuchKey"},
		"unit without its program": {func(in *image.Input) {
			in.Overlays = []rootfs.Entry{rootfs.Bytes(layout.RootUnits+"/x.service", 0o644, []byte("[Service]\nExecStart=/usr/bin/gone\n"))}
		}, "/usr/bin/gone"},
	} {
		in := good
		c.change(&in)
		b := image.Builder{Input: in}
		if _, err := b.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// armLoader offers x86-64 programs under arm64's names and the reverse.
func armLoader() fs.FS {
	pkg := imagetest.Loader()
	for _, f := range pkg {
		f.Data = bytes.Clone(f.Data)
		f.Data[0x44], f.Data[0x45] = 0x64, 0xaa
	}
	return pkg
}

func TestAStoppedBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var steps []string
	b := image.Builder{Input: input(t), Progress: func(e image.Event) {
		if steps = append(steps, e.Step); e.Step == "verity" && e.Done {
			cancel()
		}
	}}
	if _, err := b.Build(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after %q, want context.Canceled", err, steps)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("the folder holds %v, %v; want nothing", left, err)
	}
}

func TestARootThatDoesNotFitIsRefused(t *testing.T) {
	in := input(t)
	in.Overlays = append(in.Overlays, rootfs.Entry{Path: "/big", Size: 800 << 20, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(zeros{}, 800<<20)), nil
	}})
	b := image.Builder{Input: in}
	if _, err := b.Build(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "slot") {
		t.Errorf("got %v, want a refusal that speaks of the slot", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
