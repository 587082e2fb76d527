package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
)

// RepoDir is the folder of a stick that holds a repository.
const RepoDir = "wayside-repo"

// Dir is a folder. Links that lead out of it are not followed: a stick may
// hold anything.
type Dir string

func (d Dir) String() string { return "folder " + string(d) }

// Open implements Source.
func (d Dir) Open(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	fail := func(kind Kind, err error) (io.ReadCloser, error) {
		return nil, &Error{Source: d.String(), Name: name, Kind: kind, Err: err}
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return fail(NotThere, bare(err))
	}
	defer root.Close()
	// Opening a FIFO would wait for its writer.
	st, err := root.Stat(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fail(NotThere, bare(err))
	}
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("is no ordinary file")
	}
	if err != nil {
		return fail(Refused, bare(err))
	}
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return fail(Refused, bare(err))
	}
	size := st.Size() - offset
	if length == Rest {
		length = max(size, 0)
	}
	if size < length || offset < 0 {
		f.Close()
		return fail(Misbehaves, fmt.Errorf("has %d bytes, want %d from %d on: %w", st.Size(), length, offset, io.ErrUnexpectedEOF))
	}
	return &dirFile{io.NewSectionReader(f, offset, length), f, d, name}, nil
}

// dirFile says of a disk that is worn, or was pulled out, that it is the
// source's trouble: others may have the file. Asking again is of no use.
type dirFile struct {
	io.Reader
	io.Closer
	dir  Dir
	name string
}

func (f *dirFile) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &Error{Source: f.dir.String(), Name: f.name, Kind: NotThere, Err: bare(err)}
	}
	return n, err
}

// bare drops the path that the source says already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Sticks are the repositories below media, where each disk that is plugged in
// has a folder, in the order of their names.
func Sticks(media string) []Dir {
	found, _ := filepath.Glob(filepath.Join(media, "*", RepoDir, "timestamp.json"))
	sort.Strings(found)
	var out []Dir
	for _, f := range found {
		out = append(out, Dir(filepath.Dir(f)))
	}
	return out
}
