package image

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/secureboot"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/image/verity"
)

// Verify refuses an image of which loader, kernel image or root was altered
// in any byte, or that is not signed by one of the certificates. The error
// names what is wrong and where. The site profile on the boot partition is
// the owner's to change and not looked at.
func Verify(img io.ReaderAt, size int64, certs ...*x509.Certificate) error {
	if len(certs) == 0 {
		return errors.New("verify image: no certificate given to check signatures against")
	}
	p, err := open(img, size)
	if err != nil {
		return err
	}
	if p.table.Boot != "" && p.table.Boot != disk.BIOSNotice {
		return errors.New("the first sector holds a boot program that no build puts there")
	}
	if len(p.ukis) != 1 {
		return fmt.Errorf("the boot partition holds %d kernel images, a shipped image has one", len(p.ukis))
	}
	boot := p.ukis[0]
	if !boot.byUBoot() {
		if err := p.verifyESP(certs); err != nil {
			return err
		}
	}
	if err := verifyPE("kernel image", boot.path, boot.pe, certs); err != nil {
		return err
	}
	rootHash, dataBlocks, err := boot.pin()
	if err != nil {
		return err
	}
	if err := p.verifySlot(rootHash, dataBlocks); err != nil {
		return fmt.Errorf("slot root-a: %w", err)
	}
	root, err := p.root(dataBlocks)
	if err != nil {
		return err
	}
	if boot.byUBoot() {
		if err := p.verifyBootFiles(root); err != nil {
			return err
		}
	}
	r, err := readRelease(root)
	if err != nil {
		return fmt.Errorf("slot root-a: %w", err)
	}
	return p.verifyIdentity(r, boot, dataBlocks)
}

// verifyESP checks everything on the boot partition that is run or obeyed
// before the kernel image, and that nothing else is there.
func (p *parts) verifyESP(certs []*x509.Certificate) error {
	found := map[string]bool{}
	for _, f := range p.files {
		dir := path.Dir(f.Path) + "/"
		switch {
		case strings.EqualFold(dir, layout.ESPLoader+"/"), isBootManager(f.Path):
			pe, err := p.esp.ReadFile(f.Path)
			if err != nil {
				return err
			}
			if err := verifyPE("boot loader", f.Path, pe, certs); err != nil {
				return err
			}
			found[f.Path] = true
		case f.Path == layout.ESPLoaderConf:
			conf, err := p.esp.ReadFile(f.Path)
			if err != nil {
				return err
			}
			if _, ours := enrolMode(conf); !ours {
				return fmt.Errorf("boot loader configuration %s was altered: it says %q, want %q or another --enroll-keys mode",
					f.Path, conf, loaderConf(EnrolOff))
			}
		case isKeyFile(f.Path):
			if err := p.verifyKeyFile(f.Path, certs); err != nil {
				return err
			}
		case strings.EqualFold(dir, layout.ESPUKIDir+"/"): // looked at by the caller
		case isOwners(f.Path):
		default:
			return fmt.Errorf("the boot partition holds %s, which no build puts there", f.Path)
		}
	}
	for goarch := range efiArch {
		if !slices.ContainsFunc(loaders(goarch, nil), func(f disk.FATFile) bool { return !found[f.Path] }) {
			return nil
		}
	}
	return fmt.Errorf("the boot partition holds no whole boot loader: neither %s with %s nor another architecture's",
		layout.LoaderFile("amd64"), layout.BootManager("amd64"))
}

func isBootManager(name string) bool {
	return name == layout.BootManager("amd64") || name == layout.BootManager("arm64")
}

// verifyKeyFile checks that what would become db names the signer of this
// image: whoever picks "enrol" in the boot menu picks what lies there. PK and
// KEK are signed by keys that the certificates do not speak of; they are shown
// by Inspect.
func (p *parts) verifyKeyFile(name string, certs []*x509.Certificate) error {
	data, err := p.esp.ReadFile(name)
	if err != nil {
		return err
	}
	enrolled, err := secureboot.AuthCertificates(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if path.Base(name) != "db.auth" {
		return nil
	}
	for _, c := range enrolled {
		for _, known := range certs {
			if c.Equal(known) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s would enrol keys that this image is not signed by", name)
}

// verifySlot checks every block of the slot: data and tree by the root hash,
// and zeros behind them.
func (p *parts) verifySlot(rootHash []byte, dataBlocks int64) error {
	end := verity.Size(dataBlocks)
	if end > p.slot.Size() {
		return fmt.Errorf("%d blocks with their hash tree are larger than the slot", dataBlocks)
	}
	if err := verity.Verify(context.Background(), p.slot, dataBlocks, rootHash); err != nil {
		return err
	}
	return checkZeros(p.img, p.slotStart+end, p.slotStart+p.slot.Size())
}

// verifyIdentity checks that root, command line, partition table and hash
// tree speak of one release.
func (p *parts) verifyIdentity(r release.Release, boot bootImage, dataBlocks int64) error {
	for _, said := range []struct{ what, root, boot string }{
		{"version", r.Version, boot.cmdline[layout.CmdVersion]},
		{"board", r.Board, boot.cmdline[layout.CmdBoard]},
		{"epoch", fmt.Sprint(r.Epoch), boot.cmdline[layout.CmdEpoch]},
		{"counter", fmt.Sprint(r.Counter), cmp.Or(boot.cmdline[layout.CmdCounter], "0")},
		{"kernel", r.Kernel, string(uki.Find(boot.sections, uki.Uname))},
		{"file name", ukiName(r, boot.byUBoot()), path.Base(boot.path)},
	} {
		if said.root != said.boot {
			return fmt.Errorf("%s: the root says %q, the kernel image %q", said.what, said.root, said.boot)
		}
	}
	params, err := verity.ReadParams(p.slot, dataBlocks)
	if err != nil {
		return err
	}
	if want := verityParams(r); params.UUID != want.UUID || !bytes.Equal(params.Salt, want.Salt) {
		return errors.New("slot root-a: UUID or salt of the verity superblock is not the release's")
	}
	return p.verifyTable(r, boot.byUBoot())
}

// verifyTable checks that the disk is laid out as the release's is.
func (p *parts) verifyTable(r release.Release, byUBoot bool) error {
	parts, err := shipped(r.Arch)
	if err != nil {
		return err
	}
	want, _ := diskTable(parts, r, byUBoot)
	if p.table.Hybrid != want.Hybrid {
		return fmt.Errorf("partition table: hybrid %v, the release has %v", p.table.Hybrid, want.Hybrid)
	}
	if p.table.GUID != want.GUID || len(p.table.Partitions) != len(want.Partitions) {
		return fmt.Errorf("partition table: disk %s with %d partitions, the release has %s with %d",
			p.table.GUID, len(p.table.Partitions), want.GUID, len(want.Partitions))
	}
	for i, got := range p.table.Partitions {
		if got != want.Partitions[i] {
			return fmt.Errorf("partition table: entry %d is %+v, the release has %+v", got.Index, got, want.Partitions[i])
		}
	}
	return nil
}

// file reads a file of the root, nil if there is none.
func file(root fs.FS, name string) []byte {
	data, err := fs.ReadFile(root, strings.TrimPrefix(name, "/"))
	if err != nil {
		return nil
	}
	return data
}
