package image

import (
	"fmt"
	"io"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/verity"
)

// Contents is what a slot holds of an image, taken apart.
type Contents struct {
	Release    release.Release
	UKI        []byte
	RootHash   []byte
	DataBlocks int64
	// Root is file system and verity superblock; the hash tree behind it is
	// computed from them.
	Root *io.SectionReader
	// RootBytes is what the slot must hold: Root and hash tree.
	RootBytes int64
	// Files of the root, nil where it has none.
	UpdateRoot, SBOM, Provenance []byte
	// Owners are the files of the boot partition that are its owner's to change,
	// by path.
	Owners map[string][]byte
}

// Open takes an image apart. It believes what the image says: Verify first.
func Open(img io.ReaderAt, size int64) (*Contents, error) {
	p, err := open(img, size)
	if err != nil {
		return nil, err
	}
	if len(p.ukis) != 1 {
		return nil, fmt.Errorf("the boot partition holds %d kernel images, a shipped image has one", len(p.ukis))
	}
	c := &Contents{UKI: p.ukis[0].pe}
	if c.RootHash, c.DataBlocks, err = p.ukis[0].pin(); err != nil {
		return nil, err
	}
	root, err := p.root(c.DataBlocks)
	if err != nil {
		return nil, err
	}
	if c.Release, err = readRelease(root); err != nil {
		return nil, err
	}
	c.RootBytes = verity.Size(c.DataBlocks)
	c.Root = io.NewSectionReader(p.slot, 0, (c.DataBlocks+1)*layout.VerityBlock)
	c.UpdateRoot, c.SBOM, c.Provenance = file(root, layout.RootTUF), file(root, layout.RootSBOM), file(root, layout.RootProvenance)
	c.Owners = map[string][]byte{}
	for _, f := range p.files {
		if isOwners(f.Path) && f.Size <= layout.MiB {
			if c.Owners[f.Path], err = p.esp.ReadFile(f.Path); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// Beside is the name of a file that a build writes beside an image.
func Beside(img, suffix string) string { return strings.TrimSuffix(img, ".img") + suffix }
