package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image/rootfs"
)

// firmwareDir is where Debian's packages have firmware and the kernel looks
// for it, below the root.
const firmwareDir = "usr/lib/firmware"

// planFirmware takes the files that the selected modules name, and those the
// board asks for, out of the firmware packages. Their licences come along.
func (p *Plan) planFirmware(_ context.Context, in *Input) error {
	board := in.Board.Firmware
	if len(in.Firmware) != len(board.Packages) {
		return fmt.Errorf("board %s names %d firmware packages, %d are given", in.Board.Slug, len(board.Packages), len(in.Firmware))
	}
	files := map[string][]byte{}
	for i, pkg := range in.Firmware {
		found, err := p.firmwareOf(pkg, board)
		if err != nil {
			return fmt.Errorf("firmware package %s: %w", board.Packages[i], err)
		}
		if len(found) == 0 {
			return fmt.Errorf("firmware package %s: no selected module names a file of it; take it out of the board or add what it is for", board.Packages[i])
		}
		maps.Copy(files, found)
		licence := "usr/share/doc/" + board.Packages[i] + "/copyright"
		text, err := fs.ReadFile(pkg, licence)
		if err != nil {
			return fmt.Errorf("firmware package %s: licence: %w", board.Packages[i], err)
		}
		p.root = append(p.root, rootfs.Bytes("/"+licence, 0o644, text))
	}
	p.Firmware = slices.Sorted(maps.Keys(files))
	for _, name := range p.Firmware {
		p.root = append(p.root, rootfs.Bytes("/"+path.Join(firmwareDir, name), 0o644, files[name]))
	}
	return nil
}

// firmwareOf reads what is wanted of one package, by path below firmwareDir.
func (p *Plan) firmwareOf(pkg fs.FS, board boards.Firmware) (map[string][]byte, error) {
	files := map[string][]byte{}
	read := func(name string) error {
		file := path.Join(firmwareDir, name)
		data, err := fs.ReadFile(pkg, file) // follows links
		if errors.Is(err, fs.ErrNotExist) {
			// An alternative that a package sets up when it is installed; this is
			// the one that Debian's kernel has the key for (wireless-regdb).
			data, err = fs.ReadFile(pkg, file+"-debian")
		}
		if err == nil {
			files[name] = data
		}
		return err
	}
	for _, m := range p.modules {
		for _, name := range m.Firmware {
			if strings.ContainsAny(name, "*?[") || matches(board.Without, name) {
				continue // what differs from board to board: the board says which
			}
			if err := read(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	for _, pattern := range board.Files {
		names, err := fs.Glob(pkg, path.Join(firmwareDir, pattern))
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		for _, name := range names {
			if err := read(strings.TrimPrefix(name, firmwareDir+"/")); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// matches judges a name by patterns, which the board's check has read before.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}
