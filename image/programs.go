package image

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/waysideos/wayside/image/rootfs"
)

// libraries is where Debian keeps shared libraries, by architecture, below the
// root; the dynamic linker looks there without a cache.
var libraries = map[string]string{"amd64": "usr/lib/x86_64-linux-gnu", "arm64": "usr/lib/aarch64-linux-gnu"}

// linked gathers programs and what they are linked with.
type linked struct {
	packages []fs.FS
	names    []string // of packages
	dir      string   // of libraries
	used     []bool   // of packages
	files    map[string]bool
	root     []rootfs.Entry
}

// planPrograms takes the programs that the board names out of Debian's
// packages, and of the libraries beside them those that they are linked with
// (PT_INTERP and DT_NEEDED). What a program would open later by name is not
// among them.
func (p *Plan) planPrograms(_ context.Context, in *Input) error {
	board := in.Board.Programs
	if len(in.Programs) != len(board.Packages) {
		return fmt.Errorf("board %s names %d packages of programs, %d are given", in.Board.Slug, len(board.Packages), len(in.Programs))
	}
	l := &linked{packages: in.Programs, names: board.Packages, dir: libraries[in.Board.Arch],
		used: make([]bool, len(in.Programs)), files: map[string]bool{}}
	for _, name := range board.Files {
		if err := l.add(name); err != nil {
			return fmt.Errorf("board %s: program %s: %w", in.Board.Slug, name, err)
		}
	}
	for i, pkg := range l.packages {
		if !l.used[i] {
			return fmt.Errorf("package %s: no program of board %s is in it or linked with it; take it out of programs.packages", l.names[i], in.Board.Slug)
		}
		licence := "usr/share/doc/" + l.names[i] + "/copyright"
		text, err := fs.ReadFile(pkg, licence)
		if err != nil {
			return fmt.Errorf("package %s: licence: %w", l.names[i], err)
		}
		l.root = append(l.root, rootfs.Bytes("/"+licence, 0o644, text))
	}
	p.root = append(p.root, l.root...)
	return nil
}

// add puts a file into the root, and then what it is linked with.
func (l *linked) add(name string) error {
	if l.files[name] {
		return nil
	}
	l.files[name] = true
	data, err := l.read(name)
	if err != nil {
		return err
	}
	l.root = append(l.root, rootfs.Bytes("/"+name, 0o755, data))
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %v", name, err)
	}
	if err := l.interpreter(f); err != nil {
		return err
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: libraries it needs: %v", name, err)
	}
	for _, lib := range needed {
		if strings.HasPrefix(lib, "ld-linux-") {
			continue // the interpreter itself, which is loaded by then
		}
		if err := l.add(path.Join(l.dir, lib)); err != nil {
			return fmt.Errorf("%s, which %s needs: %w", lib, path.Base(name), err)
		}
	}
	return nil
}

// interpreter adds the dynamic linker under the name that the kernel looks
// for. /lib64 is a link of its own; /lib is one on every box.
func (l *linked) interpreter(f *elf.File) error {
	for _, prog := range f.Progs {
		if prog.Type != elf.PT_INTERP {
			continue
		}
		text, err := io.ReadAll(prog.Open())
		if err != nil {
			return fmt.Errorf("name of the dynamic linker: %v", err)
		}
		name := strings.TrimRight(string(text), "\x00")
		file := "usr" + name
		if l.files[file] {
			return nil
		}
		l.files[file] = true
		data, err := l.read(file)
		if err != nil {
			return err
		}
		l.root = append(l.root, rootfs.Bytes("/"+file, 0o755, data))
		if dir := path.Dir(name); dir != "/lib" {
			l.root = append(l.root, rootfs.Symlink(dir, "usr"+dir))
		}
	}
	return nil
}

// read finds a file in the packages, through links.
func (l *linked) read(name string) ([]byte, error) {
	for i, pkg := range l.packages {
		data, err := fs.ReadFile(pkg, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		l.used[i] = l.used[i] || err == nil
		return data, err
	}
	return nil, fmt.Errorf("%s is in none of programs.packages (%s)", name, strings.Join(l.names, ", "))
}
