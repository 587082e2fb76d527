package drivers

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/layout"
)

// initramfs finds the tables of modules in the archive that a UKI starts with:
// its section .initrd, a cpio archive in newc format that is not compressed
// (image/initramfs).
func initramfs(uki io.ReaderAt) (opener, error) {
	f, err := pe.NewFile(uki)
	if err != nil {
		return nil, fmt.Errorf("read its kernel image: %w", err)
	}
	section := f.Section(".initrd")
	if section == nil {
		return nil, errors.New("its kernel image has no initramfs")
	}
	found := map[string]*io.SectionReader{}
	size := int64(min(section.Size, section.VirtualSize))
	err = eachMember(io.NewSectionReader(section, 0, size), func(name string, content *io.SectionReader) {
		dir, base := path.Split(name)
		if path.Dir(path.Clean("/"+dir)) == layout.RootModules {
			found[base] = content
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read its initramfs: %w", err)
	}
	if found[depTable] == nil {
		return nil, fmt.Errorf("read its initramfs: %w", errNoModules)
	}
	return func(name string) (io.ReadCloser, error) {
		if found[name] == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(found[name]), nil
	}, nil
}

// A newc header (the kernel's Documentation/driver-api/early-userspace/
// buffer-format.rst) is a magic and 13 numbers of 8 hexadecimal digits.
const (
	newcHeader  = 110
	newcMagic   = "070701"
	newcSize    = 6 + 6*8  // of the content, which begins at a multiple of 4
	newcName    = 6 + 11*8 // length of the name behind the header, its NUL included
	newcTrailer = "TRAILER!!!"
	maxName     = 4096
)

// eachMember tells of the members of a newc archive, up to its trailer.
func eachMember(r *io.SectionReader, do func(name string, content *io.SectionReader)) error {
	align := func(n int64) int64 { return (n + 3) &^ 3 }
	for at := int64(0); ; {
		head := make([]byte, newcHeader)
		if _, err := r.ReadAt(head, at); err != nil {
			return fmt.Errorf("header at %d: %w", at, err)
		}
		size, err := strconv.ParseUint(string(head[newcSize:][:8]), 16, 32)
		length, err2 := strconv.ParseUint(string(head[newcName:][:8]), 16, 32)
		if err := errors.Join(err, err2); err != nil || string(head[:6]) != newcMagic || length > maxName {
			return fmt.Errorf("header at %d: %q is none", at, head)
		}
		name := make([]byte, length)
		if _, err := r.ReadAt(name, at+newcHeader); err != nil {
			return fmt.Errorf("name at %d: %w", at, err)
		}
		word, _, _ := strings.Cut(string(name), "\x00")
		if word == newcTrailer {
			return nil
		}
		at = align(at + newcHeader + int64(length))
		do(word, io.NewSectionReader(r, at, int64(size)))
		at = align(at + int64(size))
	}
}
