package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/rootfs"
	"github.com/waysideos/wayside/image/uboot"
)

// planBoot gathers what lies on the boot partition beside kernel images and
// the owner's files: what the machine's own firmware loads, U-Boot, its script
// and its environment. The root holds their hashes.
func (p *Plan) planBoot(_ context.Context, in *Input) error {
	if err := p.planDeviceTrees(in); err != nil {
		return err
	}
	packages := in.Boot
	for _, group := range in.Board.BootFiles {
		read, where := in.Board.Own, "board "+in.Board.Slug
		if group.Package != "" {
			if len(packages) == 0 {
				return fmt.Errorf("board %s: package %s with files for the boot partition is not given", in.Board.Slug, group.Package)
			}
			pkg := packages[0]
			packages = packages[1:]
			read = func(name string) ([]byte, error) { return fs.ReadFile(pkg, path.Join(group.From, name)) }
			where = "package " + group.Package
			if err := p.addLicence(pkg, group.Package); err != nil {
				return err
			}
		}
		for _, name := range group.Files {
			data, err := read(name)
			if err != nil {
				return fmt.Errorf("boot partition: %s: %w", where, err)
			}
			p.boot = append(p.boot, disk.FATFile{Path: name, Data: data})
		}
	}
	if in.Board.Boot == layout.BootUBoot {
		p.boot = append(p.boot,
			disk.FATFile{Path: layout.ESPBootScript, Data: uboot.Script(p.Release.Epoch)},
			disk.FATFile{Path: layout.ESPBootEnv, Data: uboot.Env()})
	}
	return nil
}

// planDeviceTrees reads the device trees out of the kernel package. The copies
// on the boot partition are the firmware's: it puts into them what it knows of
// the machine, and U-Boot carries that over into the kernel image's own.
func (p *Plan) planDeviceTrees(in *Input) error {
	for _, name := range in.Board.DeviceTrees {
		tree, err := fs.ReadFile(in.Kernel, path.Join("usr/lib/linux-image-"+p.Release.Kernel, name))
		if err != nil {
			return fmt.Errorf("kernel package %s: device tree: %w", in.Board.Packages.Kernel, err)
		}
		p.trees = append(p.trees, tree)
		if tree, err = cardFirst(tree); err != nil {
			return fmt.Errorf("device tree %s: %w", name, err)
		}
		p.boot = append(p.boot, disk.FATFile{Path: path.Base(name), Data: tree})
	}
	return nil
}

// cardFirst names the controller of a Pi 4's card the first, as Raspberry Pi's
// own trees do: else U-Boot takes that of the Wi-Fi for mmc 0, where it looks for
// its environment, and nowhere else (bugs.debian.org on u-boot-rpi 2025.01-3).
func cardFirst(tree []byte) ([]byte, error) {
	const card = "/emmc2bus/mmc@7e340000"
	if !bytes.Contains(tree, []byte(card)) { // among its symbols
		return tree, nil
	}
	t, err := dt.ReadFDT(bytes.NewReader(tree))
	if err != nil {
		return nil, err
	}
	aliases, found := t.NodeByName("aliases")
	if !found {
		return nil, errors.New("it has no aliases")
	}
	aliases.Properties = append(aliases.Properties, dt.PropertyString("mmc0", card))
	var out bytes.Buffer
	_, err = t.Write(&out)
	return out.Bytes(), err
}

func (p *Plan) addLicence(pkg fs.FS, name string) error {
	file := "usr/share/doc/" + name + "/copyright"
	text, err := fs.ReadFile(pkg, file)
	if err != nil {
		return fmt.Errorf("package %s: licence: %w", name, err)
	}
	p.licences = append(p.licences, rootfs.Bytes("/"+file, 0o644, text))
	return nil
}

// bootSums are the SHA-256 of the boot partition's files, hex by path, as the
// root holds them at layout.RootBootFiles. nil if there are none.
func bootSums(files []disk.FATFile) map[string]string {
	var sums map[string]string
	for _, f := range files {
		if sums == nil {
			sums = map[string]string{}
		}
		sum := sha256.Sum256(f.Data)
		sums[f.Path] = hex.EncodeToString(sum[:])
	}
	return sums
}

// bootTree is what the root says of the boot partition.
func (p *Plan) bootTree() ([]rootfs.Entry, error) {
	if len(p.boot) == 0 {
		return nil, nil
	}
	data, err := json.MarshalIndent(bootSums(p.boot), "", "  ")
	return append(p.licences[:len(p.licences):len(p.licences)], rootfs.Bytes(layout.RootBootFiles, 0o644, append(data, '\n'))), err
}

// byUBoot says that U-Boot starts the kernel image.
func (u bootImage) byUBoot() bool { return u.cmdline[layout.CmdBoot] == layout.BootUBoot }

// shippedRecord is the boot record of an image: its one kernel image boots.
var shippedRecord = layout.BootRecord{Sequence: 1, Good: 0, Trial: layout.NoTrial}

func recordSectors() map[int64][]byte {
	sectors := map[int64][]byte{}
	for _, at := range layout.BootRecordSectors {
		sectors[at] = shippedRecord.Encode()
	}
	return sectors
}

// ubootVariables is where U-Boot keeps the UEFI variables that it makes up. It
// writes the file when a box starts for the first time.
const ubootVariables = "ubootefi.var"

// verifyBootFiles checks every file of a boot partition that U-Boot starts
// from against what the verified root says, and the boot record.
func (p *parts) verifyBootFiles(root fs.FS) error {
	sums := map[string]string{}
	if data := file(root, layout.RootBootFiles); data == nil || json.Unmarshal(data, &sums) != nil {
		return fmt.Errorf("the root does not say what lies on the boot partition: %s", layout.RootBootFiles)
	}
	for _, f := range p.files {
		if isOwners(f.Path) || strings.EqualFold(path.Dir(f.Path), layout.ESPUKIDir) || f.Path == ubootVariables {
			continue
		}
		want, known := sums[f.Path]
		if !known {
			return fmt.Errorf("the boot partition holds %s, which no build puts there", f.Path)
		}
		data, err := p.esp.ReadFile(f.Path)
		if err != nil {
			return err
		}
		if got := bootSums([]disk.FATFile{{Path: f.Path, Data: data}})[f.Path]; got != want {
			return fmt.Errorf("%s of the boot partition was altered: its SHA-256 is %s, the release has %s", f.Path, got, want)
		}
		delete(sums, f.Path)
	}
	for name := range sums {
		return fmt.Errorf("the boot partition lacks %s", name)
	}
	for _, at := range layout.BootRecordSectors {
		got, err := p.esp.Reserved(at)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, shippedRecord.Encode()) {
			return fmt.Errorf("the boot record in sector %d of the boot partition is not that of an image as it was built", at)
		}
	}
	return nil
}

// isOwners says that a file of the boot partition is its owner's to change.
func isOwners(name string) bool {
	return slices.Contains([]string{layout.ESPSite, layout.ESPInstall, layout.ESPRecovery, layout.ESPClaim, layout.ESPRefused}, name) || path.Dir(name) == layout.ESPSecrets
}
