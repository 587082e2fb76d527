package debian_test

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/image/debian/debiantest"
)

func raw(typeflag byte, name, link string) debiantest.File {
	return debiantest.File{Header: &tar.Header{Name: name, Linkname: link, Typeflag: typeflag, Mode: 0o644}}
}

// TestExtractRefuses feeds packages that are signed and locked, and bad all the
// same.
func TestExtractRefuses(t *testing.T) {
	files := func(f ...debiantest.File) []byte { return debiantest.Deb(t, "", f...) }
	good := debiantest.Deb(t, ".xz", debiantest.File{Name: "a", Content: strings.Repeat("a", 1000)})
	for _, tc := range []struct {
		name, err string
		deb       []byte
	}{
		{"garbage", "no ar archive", []byte("garbage, but signed")},
		{"magic only", "no data.tar", []byte("!<arch>\n")},
		{"no data", "no data.tar", debiantest.Ar(debiantest.Member{Name: "debian-binary", Content: []byte("2.0\n")})},
		{"cut in a header", "is cut off", good[:90]},
		{"cut in the data", "ends behind the file", good[:len(good)-8]},
		{"negative size", "is damaged", []byte(strings.Replace(string(good), "4         `", "-4        `", 1))},
		{"blank mode and size", "is damaged", []byte("!<arch>\n" + strings.Repeat(" ", 58) + "`\n")},
		{"unknown compression", "compression is not known", debiantest.Ar(debiantest.Member{Name: "data.tar.lzma", Content: []byte("x")})},
		{"no xz", "unpack data.tar.xz", debiantest.Ar(debiantest.Member{Name: "data.tar.xz", Content: []byte("not xz")})},
		{"no gz", "unpack data.tar.gz", debiantest.Ar(debiantest.Member{Name: "data.tar.gz", Content: []byte("not gz")})},
		{"no zst", "read data.tar", debiantest.Ar(debiantest.Member{Name: "data.tar.zst", Content: []byte("not zst")})},
		{"no tar", "read data.tar", debiantest.Ar(debiantest.Member{Name: "data.tar", Content: []byte(strings.Repeat("no tar", 200))})},
		{"up and out", "leads out of the package", files(debiantest.File{Name: "../evil"})},
		{"up in the middle", "leads out of the package", files(debiantest.File{Name: "./usr/../../evil"})},
		{"absolute", "leads out of the package", files(debiantest.File{Name: "/etc/evil"})},
		{"backslash", "leads out of the package", files(debiantest.File{Name: `..\evil`})},
		{"below a link", "which is no directory", files(raw(tar.TypeSymlink, "a", "/tmp"), debiantest.File{Name: "a/evil"})},
		{"below a file", "which is no directory", files(debiantest.File{Name: "a"}, debiantest.File{Name: "a/b"})},
		{"twice", "names it twice", files(debiantest.File{Name: "a"}, debiantest.File{Name: "a"})},
		{"link over a file", "names it twice", files(debiantest.File{Name: "a"}, raw(tar.TypeSymlink, "a", "/tmp"))},
		{"hard link out", "leads out of the package", files(raw(tar.TypeLink, "a", "../../evil"))},
		{"hard link to nothing", "which is no file before it", files(raw(tar.TypeLink, "a", "b"))},
		{"hard link to a link", "which is no file before it", files(raw(tar.TypeSymlink, "b", "/etc/passwd"), raw(tar.TypeLink, "a", "b"))},
		{"device", "neither file, directory nor link", files(raw(tar.TypeBlock, "dev/sda", ""))},
		{"fifo", "neither file, directory nor link", files(raw(tar.TypeFifo, "pipe", ""))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := benchOf(t, tc.deb)
			_, err := b.get(t)
			if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(err.Error(), "tool 1.0") {
				t.Errorf("got %v, want an error with %q and the package", err, tc.err)
			}
			for _, name := range []string{b.cached("trees-1", ""), b.cached("trees-1", ".tmp")} {
				if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s was left behind: %v", name, err)
				}
			}
		})
	}
}

func TestExtractCompressions(t *testing.T) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		t.Run("data.tar"+ext, func(t *testing.T) {
			b := benchOf(t, debiantest.Deb(t, ext,
				debiantest.File{Name: "./usr/bin/tool", Content: strings.Repeat("tool", 5000)},
				raw(tar.TypeLink, "./usr/bin/same", "./usr/bin/tool")))
			p := b.mustGet(t)
			wantTool(t, p)
			if same, err := fs.ReadFile(p.FS(), "usr/bin/same"); err != nil || len(same) != 20000 {
				t.Errorf("hard link: got %d bytes, %v", len(same), err)
			}
		})
	}
}

// TestLinkLoop: a loop ends in an error, and a link that climbs stays inside.
func TestLinkLoop(t *testing.T) {
	b := newBench(t, raw(tar.TypeSymlink, "a", "b"), raw(tar.TypeSymlink, "b", "a"),
		raw(tar.TypeSymlink, "up", "../../../../etc/passwd"))
	p := b.mustGet(t)
	if _, err := fs.Stat(p.FS(), "a"); err == nil || !strings.Contains(err.Error(), "too many levels") {
		t.Errorf("got %v", err)
	}
	if _, err := fs.ReadFile(p.FS(), "up"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if got := p.Path("up"); !strings.HasPrefix(got, b.dir) {
		t.Errorf("Path leads out of the cache: %s", got)
	}
}

// FuzzExtract: whatever a .deb holds, nothing is written beside the folder it is
// extracted to.
func FuzzExtract(f *testing.F) {
	f.Add(debiantest.Deb(f, "", debiantest.File{Name: "./a/b", Content: "b"}, raw(tar.TypeSymlink, "l", "/etc"), raw(tar.TypeLink, "h", "a/b")))
	f.Add(debiantest.Deb(f, ".gz", debiantest.File{Name: "../evil"}))
	f.Add(debiantest.Deb(f, ".xz", debiantest.File{Name: "./a"}))
	f.Add(debiantest.Deb(f, ".zst", debiantest.File{Name: "./a"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		name := filepath.Join(base, "x.deb")
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		deb, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer deb.Close()
		if err := os.Mkdir(filepath.Join(base, "out"), 0o755); err != nil {
			t.Fatal(err)
		}
		debian.Extract(deb, filepath.Join(base, "out"))
		if entries, err := os.ReadDir(base); err != nil || len(entries) != 2 {
			t.Errorf("got %v, %v; want the package and its folder only", entries, err)
		}
	})
}
