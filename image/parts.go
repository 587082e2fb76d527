package image

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/rootfs"
	"github.com/waysideos/wayside/image/uki"
)

// parts are the pieces of an image, found and opened but not believed.
type parts struct {
	img   io.ReaderAt
	table disk.Table
	esp   *disk.FAT
	files []disk.FATInfo
	ukis  []bootImage
	slot  *io.SectionReader // root-a

	slotStart int64
}

// bootImage is a UKI on the boot partition.
type bootImage struct {
	path     string
	pe       []byte
	sections []uki.Section
	cmdline  map[string]string // our own words
}

func open(img io.ReaderAt, size int64) (*parts, error) {
	table, err := disk.ReadGPT(img, size)
	if err != nil {
		return nil, err
	}
	p := &parts{img: img, table: table}
	espPart, err := p.find(layout.ESP)
	if err != nil {
		return nil, err
	}
	rootPart, err := p.find(layout.RootA)
	if err != nil {
		return nil, err
	}
	p.slot, p.slotStart = io.NewSectionReader(img, rootPart.Start, rootPart.Size), rootPart.Start
	if p.esp, err = disk.OpenFAT(io.NewSectionReader(img, espPart.Start, espPart.Size), espPart.Size); err != nil {
		return nil, fmt.Errorf("partition %s: %w", espPart.Name, err)
	}
	if p.files, err = p.esp.List(); err != nil {
		return nil, fmt.Errorf("partition %s: %w", espPart.Name, err)
	}
	return p, p.readUKIs()
}

// find returns the partition of a role, known by type and name.
func (p *parts) find(role layout.Role) (disk.Partition, error) {
	for _, goarch := range []string{"amd64", "arm64"} {
		all, err := layout.Partitions(goarch)
		if err != nil {
			return disk.Partition{}, err
		}
		for _, want := range all {
			for _, part := range p.table.Partitions {
				if want.Role == role && part.Type == want.Type && part.Name == want.Name {
					return part, nil
				}
			}
		}
	}
	return disk.Partition{}, fmt.Errorf("the disk has no %s partition", role)
}

func (p *parts) readUKIs() error {
	for _, f := range p.files {
		if !strings.EqualFold(path.Dir(f.Path), layout.ESPUKIDir) {
			continue
		}
		pe, err := p.esp.ReadFile(f.Path)
		if err != nil {
			return err
		}
		u := bootImage{path: f.Path, pe: pe}
		if u.sections, err = uki.Sections(pe); err != nil {
			return fmt.Errorf("kernel image %s: %w", f.Path, err)
		}
		u.cmdline = words(string(uki.Find(u.sections, uki.Cmdline)))
		p.ukis = append(p.ukis, u)
	}
	if len(p.ukis) == 0 {
		return fmt.Errorf("the boot partition holds no kernel image in %s", layout.ESPUKIDir)
	}
	return nil
}

// words picks key=value words; the last of a key counts.
func words(cmdline string) map[string]string {
	m := map[string]string{}
	for _, w := range strings.Fields(cmdline) {
		if key, value, ok := strings.Cut(w, "="); ok {
			m[key] = value
		}
	}
	return m
}

// pin returns root hash and data blocks that the command line states.
func (u bootImage) pin() (rootHash []byte, dataBlocks int64, err error) {
	rootHash, err = hex.DecodeString(u.cmdline[layout.CmdRootHash])
	if err != nil || len(rootHash) != 32 {
		return nil, 0, fmt.Errorf("kernel image %s: command line pins no root: %s=%q", u.path, layout.CmdRootHash, u.cmdline[layout.CmdRootHash])
	}
	dataBlocks, err = strconv.ParseInt(u.cmdline[layout.CmdDataBlocks], 10, 64)
	if err != nil || dataBlocks < 1 || dataBlocks > 1<<40 {
		return nil, 0, fmt.Errorf("kernel image %s: command line: %s=%q is no number of blocks", u.path, layout.CmdDataBlocks, u.cmdline[layout.CmdDataBlocks])
	}
	return rootHash, dataBlocks, nil
}

// root opens the root file system in the slot.
func (p *parts) root(dataBlocks int64) (fs.FS, error) {
	if dataBlocks*layout.VerityBlock > p.slot.Size() {
		return nil, fmt.Errorf("root of %d blocks is larger than its slot", dataBlocks)
	}
	return rootfs.Open(io.NewSectionReader(p.slot, 0, dataBlocks*layout.VerityBlock))
}

func readRelease(root fs.FS) (release.Release, error) {
	data, err := fs.ReadFile(root, strings.TrimPrefix(layout.RootRelease, "/"))
	if err != nil {
		return release.Release{}, err
	}
	return release.Decode(data)
}

// signers names who signed a PE file, as the signatures themselves say.
func signers(pe []byte) ([]string, error) {
	sigs, err := uki.Signatures(pe)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range sigs {
		for _, c := range s.Certs {
			names = append(names, c.Subject.String())
		}
	}
	return names, nil
}

// verifyPE is uki.Verify with an error that says what was tried.
func verifyPE(what, name string, pe []byte, certs []*x509.Certificate) error {
	err := uki.Verify(pe, certs...)
	if errors.Is(err, uki.ErrUnsigned) {
		return fmt.Errorf("%s %s is not signed", what, name)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, name, err)
	}
	return nil
}
