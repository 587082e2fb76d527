// Package repro checks images without booting them: equal inputs give equal
// bytes, tools that others wrote find nothing wrong, and what was altered is
// refused.
package repro

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/test/harness"
)

// build runs `wayside build` as somebody in another folder, time zone, locale
// and umask would.
func build(t *testing.T, keys, umask, tz string, args ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := harness.Command(t, append([]string{"build", "--site", "examples/shop.yaml", "--keys", keys, "--out", dir}, args...)...)
	cmd.Env = append(os.Environ(), "TZ="+tz, "SOURCE_DATE_EPOCH=1", "GOFLAGS=-buildvcs=true")
	// Only a shell can set the umask of another process.
	cmd.Args = append([]string{"sh", "-c", "umask " + umask + ` && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = sh
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("wayside build: %v\n%s", err, out)
	}
	return dir
}

func TestEveryBoard(t *testing.T) {
	harness.NeedVM(t)
	all, err := boards.All()
	if err != nil {
		t.Fatal(err)
	}
	keys, seen := t.TempDir(), map[string]bool{}
	dir := build(t, keys, "022", "UTC", "--all")
	for _, b := range all {
		t.Run(b.Slug, func(t *testing.T) {
			image := "wayside-" + b.Slug + "-0.1.0-dev.img"
			first := filepath.Join(dir, image)
			second := filepath.Join(build(t, keys, "077", "Pacific/Chatham", "--board", b.Slug), image)
			sameBytes(t, first, second)
			attested(t, first, second)
			foreignTools(t, first, keys, b)
			if kind := b.Arch + " " + b.Boot; !seen[kind] { // boards of a kind are verified alike
				seen[kind] = true
				altered(t, first, keys, b)
			}
		})
	}
}

func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	fa, fb := open(t, a), open(t, b)
	sizeA, sizeB := size(t, fa), size(t, fb)
	if sizeA != sizeB {
		t.Fatalf("two builds have %d and %d bytes", sizeA, sizeB)
	}
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < sizeA; off += int64(len(bufA)) {
		off = min(harness.NextData(fa, off, sizeA), harness.NextData(fb, off, sizeB)) // holes of both are equal
		na, _ := fa.ReadAt(bufA, off)
		nb, _ := fb.ReadAt(bufB, off)
		if na != nb || !bytes.Equal(bufA[:na], bufB[:nb]) {
			t.Fatalf("two builds differ within the MiB at byte %d", off)
		}
	}
}

// attested compares what lies beside two images, signatures included, with
// each other and with what is inside.
func attested(t *testing.T, a, b string) {
	t.Helper()
	for _, suffix := range []string{image.SBOMSuffix, image.ProvenanceSuffix} {
		sameBytes(t, image.Beside(a, suffix), image.Beside(b, suffix))
	}
	inside, err := harness.Command(t, "inspect", "--sbom", "--json", a).Output()
	if err != nil {
		t.Fatal(err)
	}
	beside, err := os.ReadFile(image.Beside(a, image.SBOMSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(inside, beside) {
		t.Errorf("the SBOM in the image is not the one beside it")
	}
}

func size(t *testing.T, f *os.File) int64 {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// foreignTools has programs that others wrote look at an image's parts.
func foreignTools(t *testing.T, image, keys string, b boards.Board) {
	t.Helper()
	if out := harness.Tool(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	dir := t.TempDir()
	esp := harness.Extract(t, image, layout.ESP)
	harness.Tool(t, "fsck.vfat", "-n", esp)
	root := harness.Extract(t, image, layout.RootA)
	uki, words := harness.Inspect(t, image)
	blocks, err := strconv.ParseInt(words[layout.CmdDataBlocks], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	harness.Tool(t, "veritysetup", "verify", root, root, words[layout.CmdRootHash],
		"--hash-offset", strconv.FormatInt(blocks*layout.VerityBlock, 10))
	if err := os.Truncate(root, blocks*layout.VerityBlock); err != nil {
		t.Fatal(err)
	}
	harness.Tool(t, "fsck.erofs", root)
	signed := []string{uki}
	if b.Boot == layout.BootSystemd {
		signed = append(signed, layout.ESPLoader+"/"+layout.LoaderFile(b.Arch))
	}
	for _, name := range signed {
		file := filepath.Join(dir, filepath.Base(name))
		harness.Tool(t, "mcopy", "-n", "-i", esp, "::"+name, file)
		harness.Tool(t, "sbverify", "--cert", filepath.Join(keys, "db.crt"), file)
	}
}

// loaderText is in a boot loader.
var loaderText = map[string]string{layout.BootSystemd: "#### LoaderInfo: systemd-boot", layout.BootUBoot: "U-Boot 2025."}

// altered flips one byte in each part that is promised to be protected, and
// wants `wayside inspect --verify` to refuse the image, and to take it again
// when the byte is back.
func altered(t *testing.T, image, keys string, b boards.Board) {
	t.Helper()
	verify := func() (string, error) {
		out, err := harness.Command(t, "inspect", "--verify", "--cert", filepath.Join(keys, "db.crt"), image).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err != nil {
		t.Fatalf("the unaltered image is refused: %v\n%s", err, out)
	}
	esp, root := harness.OpenPartition(t, image, layout.ESP), harness.OpenPartition(t, image, layout.RootA)
	_, words := harness.Inspect(t, image)
	blocks, err := strconv.ParseInt(words[layout.CmdDataBlocks], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		in   harness.Partition
		at   int64
	}{
		{"kernel image", esp, harness.Find(t, esp, []byte(layout.CmdRootHash+"="))},
		{"boot loader", esp, harness.Find(t, esp, []byte(loaderText[b.Boot]))},
		{"root, first block", root, 1024},
		{"root, in the middle", root, blocks / 2 * layout.VerityBlock},
		{"hash tree", root, (blocks + 2) * layout.VerityBlock},
	} {
		harness.Flip(t, c.in, c.at)
		if out, err := verify(); err == nil {
			t.Errorf("%s altered: the image is not refused\n%s", c.name, out)
		}
		harness.Flip(t, c.in, c.at)
	}
	if out, err := verify(); err != nil {
		t.Errorf("restored image: %v\n%s", err, out)
	}
	other := t.TempDir()
	if out, err := harness.Command(t, "keys", "init", "--keys", other).CombinedOutput(); err != nil {
		t.Fatalf("wayside keys init: %v\n%s", err, out)
	}
	if out, err := harness.Command(t, "inspect", "--verify", "--keys", other, image).CombinedOutput(); err == nil {
		t.Errorf("somebody else's certificate: the image is not refused\n%s", out)
	}
}
