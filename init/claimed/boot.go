package claimed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/services/claim"
)

// boot is the boot partition's folder with the claim.
type boot struct {
	v     *fat.Volume
	files []fat.File
}

var folder = path.Dir(layout.ESPClaim)

func openBoot(d gpt.Disk, size int64) (*boot, error) {
	v, err := fat.Open(d, size)
	if err != nil {
		return nil, err
	}
	b := &boot{v: v}
	b.files, err = v.List(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return b, nil
}

// find returns -1 if there is no such file. A folder of the name is none.
func (b *boot) find(name string) int {
	return slices.IndexFunc(b.files, func(f fat.File) bool { return !f.Folder && strings.EqualFold(f.Name, path.Base(name)) })
}

func (b *boot) has(name string) bool { return b.find(name) >= 0 }

// read gives the claim, or as much of it as tells that it is too large.
func (b *boot) read() ([]byte, error) {
	i := b.find(layout.ESPClaim)
	if i < 0 {
		return nil, fs.ErrNotExist
	}
	r, err := b.v.Read(b.files[i])
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, claim.MaxSize+1))
}

// begun says that a file is one of which the wiping was cut off.
func begun(text []byte) bool {
	head := text[:min(len(text), gpt.Sector)]
	return len(head) > 0 && !slices.ContainsFunc(head, func(b byte) bool { return b != 0 })
}

// sound frees what an earlier try left and fails on a damaged file system: what
// is written over must be this file's alone.
func (b *boot) sound() error {
	groups, err := b.v.Twins(folder)
	if err != nil {
		return err
	}
	for _, g := range groups { // of an interrupted rename
		for _, f := range g[1:] {
			if err := b.v.Forget(folder, f.Name); err != nil {
				return err
			}
		}
	}
	_, err = b.v.Reclaim()
	return err
}

// wipe removes a file and what was in it.
func (b *boot) wipe(name string) error {
	if err := b.sound(); err != nil {
		return err
	}
	return b.v.Wipe(folder, path.Base(name))
}

// putAside gives a refused claim another name, over an earlier one's. It is
// somebody's: nothing of it is lost.
func (b *boot) putAside() error {
	if err := b.sound(); err != nil {
		return fmt.Errorf("put the claim aside: %w", err)
	}
	var err error
	if b.files, err = b.v.List(folder); err != nil || !b.has(layout.ESPClaim) {
		return err // it had both names, and has the new one left
	}
	if err := b.v.Wipe(folder, path.Base(layout.ESPRefused)); err != nil {
		return err
	}
	return b.v.Rename(folder, path.Base(layout.ESPClaim), path.Base(layout.ESPRefused))
}
