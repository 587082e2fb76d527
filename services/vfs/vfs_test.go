package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/vfs"
)

// TestConformance holds both file systems to the same contract.
func TestConformance(t *testing.T) {
	impls := map[string]func(*testing.T) vfs.FS{
		"os":        func(t *testing.T) vfs.FS { return vfs.OS(t.TempDir()) },
		"crashable": func(*testing.T) vfs.FS { return vfs.NewCrashable(1) },
	}
	for name, make := range impls {
		t.Run(name, func(t *testing.T) {
			t.Run("files", func(t *testing.T) { conformFiles(t, make(t)) })
			t.Run("names", func(t *testing.T) { conformNames(t, make(t)) })
			t.Run("errors", func(t *testing.T) { conformErrors(t, make(t)) })
		})
	}
}

func conformFiles(t *testing.T, fsys vfs.FS) {
	f := create(t, fsys, "a")
	write(t, f, "hello", 0)
	write(t, f, "!", 8)
	if got, want := read(t, fsys, "a"), "hello\x00\x00\x00!"; got != want {
		t.Errorf("after a write past the end: got %q, want %q", got, want)
	}
	must(t, f.Truncate(2))
	write(t, f, "y", 4)
	if got, want := read(t, fsys, "a"), "he\x00\x00y"; got != want {
		t.Errorf("after truncate and write: got %q, want %q", got, want)
	}
	must(t, f.Sync())
	if n, err := f.ReadAt(make([]byte, 9), 3); n != 2 || err != io.EOF {
		t.Errorf("read past the end: got %d, %v, want 2, EOF", n, err)
	}
	if n, err := f.Size(); n != 5 || err != nil {
		t.Errorf("size: got %d, %v, want 5", n, err)
	}
	must(t, f.Close())
	must(t, create(t, fsys, "a").Close())
	if got := read(t, fsys, "a"); got != "" {
		t.Errorf("created anew: got %q, want it empty", got)
	}
}

func conformNames(t *testing.T, fsys vfs.FS) {
	must(t, fsys.MkdirAll("d/e"))
	must(t, fsys.MkdirAll("d/e"))
	f := create(t, fsys, "d/b")
	write(t, f, "one", 0)
	must(t, create(t, fsys, "d/a").Close())
	must(t, fsys.Rename("d/b", "d/a"))
	must(t, fsys.SyncDir("d"))
	if got, want := list(t, fsys, "d"), []string{"a", "e/"}; !cmp.Equal(got, want) {
		t.Errorf("list: got %v, want %v", got, want)
	}
	if got := read(t, fsys, "d/a"); got != "one" {
		t.Errorf("renamed over: got %q, want the new content", got)
	}
	must(t, fsys.Remove("d/a"))
	write(t, f, "two", 0) // an open file outlives its name
	buf := make([]byte, 3)
	if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "two" {
		t.Errorf("removed but open: got %q, %v", buf, err)
	}
	must(t, f.Close())
	must(t, fsys.Remove("d/e"))
	if got := list(t, fsys, "."); !cmp.Equal(got, []string{"d/"}) {
		t.Errorf("list of root: got %v", got)
	}
}

func conformErrors(t *testing.T, fsys vfs.FS) {
	must(t, fsys.MkdirAll("full"))
	f := create(t, fsys, "full/x")
	must(t, f.Close())
	_, openErr := fsys.Open("none")
	_, createErr := fsys.Create("none/x")
	_, dirErr := fsys.ReadDir("none")
	_, escapeErr := fsys.Open("../x")
	_, useErr := f.ReadAt(make([]byte, 1), 0)
	tests := []struct {
		name      string
		got, want error
	}{
		{"open", openErr, fs.ErrNotExist},
		{"create", createErr, fs.ErrNotExist},
		{"readdir", dirErr, fs.ErrNotExist},
		{"escape", escapeErr, fs.ErrInvalid},
		{"rename", fsys.Rename("none", "some"), fs.ErrNotExist},
		{"remove", fsys.Remove("none"), fs.ErrNotExist},
		{"remove full", fsys.Remove("full"), syscall.ENOTEMPTY},
		{"syncdir", fsys.SyncDir("none"), fs.ErrNotExist},
		{"use closed", useErr, fs.ErrClosed},
	}
	for _, tt := range tests {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: got error %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	return f
}

func write(t *testing.T, f vfs.File, s string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), off)
	must(t, err)
}

func read(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	must(t, err)
	return string(b)
}

func list(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	return names
}
