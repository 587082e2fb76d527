package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/modules"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/rootfs"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/services/manifest"
)

// Plan is what a build will do: inputs resolved, nothing written.
type Plan struct {
	Name    string          `json:"name"` // of the image file, without ".img"
	Release release.Release `json:"release"`
	// Cmdline is the kernel command line but for the words that pin the root,
	// which are known only once it is written.
	Cmdline []string `json:"cmdline"`
	// Modules by path below the kernel's module folder.
	InitramfsModules []string  `json:"initramfs_modules"`
	RootModules      []string  `json:"root_modules"`
	Load             []string  `json:"load"`               // modules loaded in any case, by name
	Firmware         []string  `json:"firmware,omitempty"` // by path below usr/lib/firmware
	Packages         []Package `json:"packages"`
	Files            int       `json:"files"` // entries of the root tree
	Bytes            int64     `json:"bytes"` // their content

	layout    []layout.Partition // the shipped ones
	index     *modules.Index
	initramfs []modules.Module
	modules   []modules.Module
	kernel    []byte

	components []attest.Component // what the image is made of
	sbom       []byte
	loader     []byte         // systemd-boot, unsigned; nil where U-Boot starts kernel images
	boot       []disk.FATFile // of the boot partition, and of no slot
	trees      [][]byte       // device trees
	licences   []rootfs.Entry // of what is on the boot partition
	stub       []byte
	root       []rootfs.Entry // without the modules' own files, which the build extracts
}

// efiArch is how UEFI and systemd write an architecture in file names.
var efiArch = map[string]string{"amd64": "x64", "arm64": "aa64"}

const loaderDir = "usr/lib/systemd/boot/efi"

// Plan resolves the inputs completely and writes nothing but the cache. An
// input that cannot work is refused here.
func (b *Builder) Plan(ctx context.Context) (*Plan, error) {
	in := &b.Input
	p := &Plan{Name: in.Name, Packages: in.Packages}
	p.Release = release.Release{Version: in.Version, Board: in.Board.Slug, Arch: in.Board.Arch, Epoch: in.Epoch,
		Counter: cmp.Or(in.Counter, release.DefaultCounter(in.Epoch))}
	if p.Name == "" {
		p.Name = "wayside-" + in.Board.Slug + "-" + in.Version
	}
	if p.Name != path.Base(p.Name) || strings.HasPrefix(p.Name, ".") {
		return nil, fmt.Errorf("image name %q: want a file name", p.Name)
	}
	if err := p.Release.Validate(); err != nil {
		return nil, err
	}
	if err := in.Keys.Check(); err != nil {
		return nil, err
	}
	if err := in.Enrol.check(); err != nil {
		return nil, err
	}
	if in.Board.Boot == layout.BootUBoot && (in.Encrypt || in.Enrol != nil) {
		return nil, fmt.Errorf("board %s has neither TPM nor Secure Boot: build without encryption and without enrolling keys", in.Board.Slug)
	}
	if in.Encrypt && in.PolicyKey == nil {
		return nil, errors.New("encryption by the TPM: needs a policy key, none is given")
	}
	if err := p.resolve(ctx, b); err != nil {
		return nil, err
	}
	p.Cmdline = cmdline(in, p.Release, "", 0)
	return p, nil
}

// resolve does the steps in order; the programs are made meanwhile, for the
// last one.
func (p *Plan) resolve(ctx context.Context, b *Builder) error {
	in := &b.Input
	g, beside := errgroup.WithContext(ctx)
	if b.Compile != nil {
		g.Go(func() (err error) {
			in.Init, in.Services, err = b.Compile(beside)
			return err
		})
	}
	g.Go(func() error {
		for _, step := range []func(context.Context, *Input) error{p.planDisk, p.planKernel, p.planBoot, p.planModules, p.planFirmware, p.planPrograms} {
			if err := step(beside, in); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return p.planRoot(ctx, in)
}

func (p *Plan) planDisk(_ context.Context, in *Input) (err error) {
	p.layout, err = shipped(in.Board.Arch)
	return err
}

// shipped are the partitions of a built image.
func shipped(goarch string) ([]layout.Partition, error) {
	all, err := layout.Partitions(goarch)
	return slices.DeleteFunc(all, func(p layout.Partition) bool { return !p.Shipped }), err
}

// planKernel reads kernel, boot loader and stub out of their packages.
func (p *Plan) planKernel(_ context.Context, in *Input) error {
	releases, err := modules.Releases(in.Kernel)
	if err != nil {
		return fmt.Errorf("kernel package %s: %w", in.Board.Packages.Kernel, err)
	}
	if len(releases) != 1 {
		return fmt.Errorf("kernel package %s: holds kernel releases %q, want one", in.Board.Packages.Kernel, releases)
	}
	p.Release.Kernel = releases[0]
	if p.kernel, err = fs.ReadFile(in.Kernel, "boot/vmlinuz-"+p.Release.Kernel); err != nil {
		return fmt.Errorf("kernel package %s: %w", in.Board.Packages.Kernel, err)
	}
	if p.stub, err = readEFI(in, "linux"+efiArch[in.Board.Arch]+".efi.stub"); err != nil || in.Board.Boot == layout.BootUBoot {
		return err
	}
	p.loader, err = readEFI(in, "systemd-boot"+efiArch[in.Board.Arch]+".efi")
	return err
}

func readEFI(in *Input, name string) ([]byte, error) {
	pe, err := fs.ReadFile(in.Loader, path.Join(loaderDir, name))
	if err != nil {
		return nil, fmt.Errorf("loader package %s: %w", in.Board.Packages.Loader, err)
	}
	arch, err := uki.Arch(pe)
	if err == nil && arch != in.Board.Arch {
		err = fmt.Errorf("it is for %q, the board for %s", arch, in.Board.Arch)
	}
	if err != nil {
		return nil, fmt.Errorf("loader package %s: %s: %w", in.Board.Packages.Loader, name, err)
	}
	return pe, nil
}

// planModules selects the modules. What the initramfs has, the root has too:
// a disk may be plugged in later.
func (p *Plan) planModules(ctx context.Context, in *Input) (err error) {
	if p.index, err = modules.Load(ctx, in.Kernel, p.Release.Kernel, in.CacheDir); err != nil {
		return err
	}
	want := in.Board.Modules
	early := slices.Concat(want.Initramfs, want.Load)
	if p.initramfs, err = p.index.Select(early); err != nil {
		return fmt.Errorf("board %s: initramfs modules: %w", in.Board.Slug, err)
	}
	if p.modules, err = p.index.Select(slices.Concat(early, want.Root)); err != nil {
		return fmt.Errorf("board %s: root modules: %w", in.Board.Slug, err)
	}
	p.InitramfsModules, p.RootModules = paths(p.initramfs), paths(p.modules)
	p.Load = p.index.Loadable(want.Load)
	return nil
}

func paths(mods []modules.Module) []string {
	var out []string
	for _, m := range mods {
		out = append(out, m.Path)
	}
	return out
}

// planRoot lays out the root tree and reads the services it declares.
func (p *Plan) planRoot(_ context.Context, in *Input) error {
	entries, err := baseTree(in, p)
	if err != nil {
		return err
	}
	if p.root, err = rootfs.Complete(slices.Concat(entries, p.root, in.Overlays)); err != nil {
		return err
	}
	view, err := rootfs.View(p.root)
	if err != nil {
		return err
	}
	if p.Release.Services, err = readServices(view); err != nil {
		return err
	}
	data, err := p.Release.Encode()
	if err != nil {
		return err
	}
	p.root = append(p.root, rootfs.Bytes(layout.RootRelease, 0o644, data))
	if p.sbom, err = attest.SPDX(p.Release, p.components); err != nil {
		return err
	}
	for _, e := range p.root {
		p.Bytes += e.Size
	}
	for _, m := range p.modules {
		p.Bytes += m.Size
	}
	p.Files = len(p.root) + len(p.modules)
	return p.checkFit(p.Bytes)
}

// checkFit refuses a root that a slot cannot hold. The content alone already
// tells most of it, before anything is written.
func (p *Plan) checkFit(root int64) error {
	for _, part := range p.layout {
		if part.Role != layout.RootA {
			continue
		}
		if room := manifest.StagedOffset(part.Size); verity.Size(root/layout.VerityBlock+1) > room {
			return fmt.Errorf("root of %s with its hash tree does not fit into the %s that a slot has for it", bytesText(root), bytesText(room))
		}
	}
	return nil
}

// readServices parses every unit as the box will: a unit that init would
// refuse, or a program that is not there, must not get into an image.
func readServices(root fs.FS) (map[string]string, error) {
	units := strings.TrimPrefix(layout.RootUnits, "/")
	if _, err := fs.Stat(root, units); err != nil {
		return nil, nil // an image without services still boots
	}
	all, _, err := manifest.ReadDir(root, units)
	if err != nil {
		return nil, err
	}
	services := map[string]string{}
	for _, u := range all {
		services[u.Name] = u.Description
		program := strings.TrimPrefix(u.ExecStart[0], "/")
		if _, err := fs.Stat(root, program); err != nil {
			return nil, fmt.Errorf("%s: ExecStart names %s, which is not in the root", u.File, u.ExecStart[0])
		}
	}
	return services, nil
}

// cmdline is the kernel command line. Our words come first, because of several
// consoles the last one given counts.
func cmdline(in *Input, r release.Release, rootHash string, dataBlocks int64) []string {
	words := []string{
		layout.CmdVersion + "=" + r.Version,
		layout.CmdBoard + "=" + r.Board,
		layout.CmdEpoch + "=" + strconv.FormatInt(r.Epoch, 10),
		layout.CmdCounter + "=" + strconv.FormatUint(r.Counter, 10),
	}
	if rootHash != "" {
		words = append(words, layout.CmdRootHash+"="+rootHash, layout.CmdDataBlocks+"="+strconv.FormatInt(dataBlocks, 10))
	}
	if in.Board.Boot != layout.BootSystemd {
		words = append(words, layout.CmdBoot+"="+in.Board.Boot)
	}
	if len(in.Board.Watchdogs) > 0 {
		words = append(words, layout.CmdWatchdogs+"="+strings.Join(in.Board.Watchdogs, ","))
	}
	if in.Encrypt {
		words = append(words, layout.CmdEncrypt+"=tpm")
	}
	return append(words, in.Board.Cmdline...)
}

// Explain prints the plan for a person.
func (b *Builder) Explain(ctx context.Context, w io.Writer) error {
	p, err := b.Plan(ctx)
	if err != nil {
		return err
	}
	out := &printer{w: w}
	out.line("image", "%s.img", p.Name)
	out.line("release", "%s", releaseText(p.Release))
	out.line("kernel", "%s", p.Release.Kernel)
	out.line("cmdline", "%s", strings.Join(p.Cmdline, " "))
	out.line("signed by", "%s", b.Input.Keys.Cert.Subject)
	if e := b.Input.Enrol; e != nil {
		out.line("enrols", "%s: %s", e.Mode, e.Platform.PK.Cert.Subject)
		for _, v := range e.Vendors {
			out.line("keeps", "%s", v.Subject)
		}
	}
	for _, part := range p.layout {
		out.line("partition", "%d %-16s %s", part.Index, part.Name, bytesText(part.Size))
	}
	for _, pkg := range p.Packages {
		out.line("package", "%s %s", pkg.Name, pkg.Version)
	}
	for _, name := range sortedKeys(p.Release.Services) {
		out.line("service", "%-16s %s", name, p.Release.Services[name])
	}
	out.line("root", "%d files, %s, %d of them modules", p.Files, bytesText(p.Bytes), len(p.RootModules))
	out.line("load", "%s", strings.Join(p.Load, " "))
	for _, m := range p.InitramfsModules {
		out.line("early", "%s", m)
	}
	for _, name := range p.Firmware {
		out.line("firmware", "%s", name)
	}
	return out.err
}
