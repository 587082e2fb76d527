package image_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image"
)

// program is the least of an ELF file that says what it is linked with.
func program(interpreter string, needed ...string) []byte {
	names := []byte{0}
	var dynamic []elf.Dyn64
	for _, n := range needed {
		dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(names))})
		names = append(append(names, n...), 0)
	}
	dynamic = append(dynamic, elf.Dyn64{})
	interp := append([]byte(interpreter), 0)

	const progAt, sectionsAt = 64, 64 + 56
	dataAt := uint64(sectionsAt + 3*64)
	namesAt := dataAt + uint64(len(interp))
	dynamicAt := namesAt + uint64(len(names))
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: progAt, Shoff: sectionsAt,
		Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64, Shnum: 3, Shstrndx: 1,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	prog := elf.Prog64{Type: uint32(elf.PT_NULL)}
	if interpreter != "" {
		prog = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: dataAt, Filesz: uint64(len(interp)), Memsz: uint64(len(interp))}
	}
	var b bytes.Buffer
	for _, part := range []any{
		h, prog, elf.Section64{},
		elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
		elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Off: dynamicAt, Size: uint64(16 * len(dynamic)), Link: 1, Entsize: 16},
		interp, names, dynamic,
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // to memory: cannot fail
	}
	return b.Bytes()
}

// supplicant is a program of one package with libraries of another, which also
// has one that nobody needs.
func supplicant() (boards.Programs, []fs.FS) {
	const libs = "usr/lib/x86_64-linux-gnu/"
	tool := fstest.MapFS{
		"usr/sbin/tool":                 {Data: program("/lib64/ld-linux-x86-64.so.2", "libb.so.1", "libc.so.6")},
		"usr/sbin/other":                {Data: program("/lib64/ld-linux-x86-64.so.2")},
		"usr/share/doc/tools/copyright": {Data: []byte("may be copied")},
	}
	lib := fstest.MapFS{
		libs + "libb.so.1":                  {Data: program("", "libc.so.6", "ld-linux-x86-64.so.2")},
		libs + "libc.so.6":                  {Data: program("")},
		libs + "libunused.so":               {Data: program("")},
		"usr/lib64/ld-linux-x86-64.so.2":    {Data: program("")},
		"usr/share/doc/libraries/copyright": {Data: []byte("may be copied")},
	}
	return boards.Programs{Packages: []string{"tools", "libraries"}, Files: []string{"usr/sbin/tool"}}, []fs.FS{tool, lib}
}

func TestProgramsWithTheirLibraries(t *testing.T) {
	in := input(t)
	in.Board.Programs, in.Programs = supplicant()
	img, res := build(t, in, t.TempDir())
	root := rootOf(t, img, res)
	for name, want := range map[string]bool{
		"usr/sbin/tool": true, "usr/lib/x86_64-linux-gnu/libb.so.1": true, "usr/lib/x86_64-linux-gnu/libc.so.6": true,
		"lib64/ld-linux-x86-64.so.2": true, "usr/share/doc/libraries/copyright": true,
		"usr/sbin/other": false, "usr/lib/x86_64-linux-gnu/libunused.so": false, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": false,
	} {
		if _, err := fs.Stat(root, name); (err == nil) != want {
			t.Errorf("%s: got %v, want it there: %v", name, err, want)
		}
	}
}

func TestProgramsThatCannotWork(t *testing.T) {
	for what, spoil := range map[string]func(*image.Input){
		"libb.so.1 is in none of programs.packages": func(in *image.Input) {
			delete(in.Programs[1].(fstest.MapFS), "usr/lib/x86_64-linux-gnu/libb.so.1")
		},
		"package idle: no program": func(in *image.Input) {
			in.Board.Programs.Packages = append(in.Board.Programs.Packages, "idle")
			in.Programs = append(in.Programs, fstest.MapFS{})
		},
		"bad magic": func(in *image.Input) {
			in.Programs[0].(fstest.MapFS)["usr/sbin/tool"] = &fstest.MapFile{Data: []byte("#!/bin/sh\necho not a program at all\n")}
		},
		"1 are given": func(in *image.Input) { in.Programs = in.Programs[:1] },
	} {
		in := input(t)
		in.Board.Programs, in.Programs = supplicant()
		in.Board.Programs.Packages = slices.Clone(in.Board.Programs.Packages)
		spoil(&in)
		if _, err := (&image.Builder{Input: in}).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want an error with %q", err, what)
		}
	}
}
