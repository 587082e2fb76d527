package debiantest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// File is an entry of a package; Mode 0 is 0644, a name that ends in / is a
// directory, and Link makes a symbolic link. Header overrides all of it.
type File struct {
	Name    string
	Content string
	Mode    int64
	Link    string
	Header  *tar.Header
}

// Deb builds a .deb with data.tar compressed as ext says: ".xz", ".zst", ".gz"
// or "".
func Deb(t testing.TB, ext string, files ...File) []byte {
	t.Helper()
	return Ar(
		Member{"debian-binary", []byte("2.0\n")},
		Member{"control.tar.gz", compress(t, ".gz", nil)},
		Member{"data.tar" + ext, compress(t, ext, Tar(t, files...))},
	)
}

// Member is one member of an ar archive.
type Member struct {
	Name    string
	Content []byte
}

// Ar builds an ar archive.
func Ar(members ...Member) []byte {
	buf := bytes.NewBufferString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(buf, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.Name, 0, 0, 0, 0o100644, len(m.Content))
		buf.Write(m.Content)
		if len(m.Content)%2 == 1 {
			buf.WriteByte('\n')
		}
	}
	return buf.Bytes()
}

// Tar builds a tar archive.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := f.Header
		if h == nil {
			h = header(f)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(f.Content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func header(f File) *tar.Header {
	h := &tar.Header{Name: f.Name, Mode: f.Mode, Typeflag: tar.TypeReg, Size: int64(len(f.Content)), ModTime: time.Unix(1_700_000_000, 0)}
	switch {
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.Link, 0
	case f.Name[len(f.Name)-1] == '/':
		h.Typeflag, h.Size = tar.TypeDir, 0
	}
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	return h
}

func compress(t testing.TB, ext string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	switch ext {
	case ".xz":
		return pack(t, data)
	case ".gz":
		w := gzip.NewWriter(&buf)
		w.Write(data)
		w.Close()
	case ".zst":
		w, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		w.Close()
	default:
		return data
	}
	return buf.Bytes()
}
