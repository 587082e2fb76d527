package image

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/guard"
	"github.com/waysideos/wayside/image/initramfs"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/modules"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/rootfs"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/services/manifest"
)

// build is one image in the making. Each step leaves what the next needs.
type build struct {
	in   *Input
	plan *Plan
	out  *os.File // the image under its temporary name
	disk disk.Table
	size int64 // of the disk

	files     map[string]string // extracted modules: path in the module folder to host file
	rootBytes int64             // of the file system
	tree      verity.Tree
	initramfs []byte
	uki       []byte         // signed
	loaders   []disk.FATFile // signed: what the firmware starts, and what that starts

	provenance []byte // of the image; the root has its own
}

// steps is what a build does, in order.
var steps = []struct {
	name string
	do   func(*build, context.Context) (detail string, err error)
}{
	{"modules", (*build).extractModules},
	{"boot loader", (*build).signLoaders},
	{"attest", (*build).attestRoot},
	{"root", (*build).writeRoot},
	{"verity", (*build).writeVerity},
	{"initramfs", (*build).makeInitramfs},
	{"uki", (*build).makeUKI},
	{"sign", (*build).sign},
	{"provenance", (*build).attestImage},
	{"esp", (*build).writeESP},
	{"gpt", (*build).writeGPT},
}

// Build writes DIR/<name>.img, first under a temporary name, and returns what
// it wrote. An existing image of that name is replaced only by a whole one.
func (b *Builder) Build(ctx context.Context, dir string) (Result, error) {
	plan, err := b.Plan(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Result{}, fmt.Errorf("write image: %w", err)
	}
	out, err := os.CreateTemp(dir, "."+plan.Name+".img-*")
	if err != nil {
		return Result{}, fmt.Errorf("write image: %w", err)
	}
	defer os.Remove(out.Name()) // does nothing after the rename
	defer out.Close()
	w := &build{in: &b.Input, plan: plan, out: out}
	if err := w.run(ctx, b.Progress); err != nil {
		return Result{}, err
	}
	return w.finish(filepath.Join(dir, plan.Name+".img"))
}

func (w *build) run(ctx context.Context, progress func(Event)) error {
	if progress == nil {
		progress = func(Event) {}
	}
	w.disk, w.size = diskTable(w.plan.layout, w.plan.Release, w.byUBoot())
	if err := w.out.Truncate(w.size); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	for i, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		progress(Event{Step: step.name, Index: i + 1, Total: len(steps)})
		detail, err := step.do(w, ctx)
		if err != nil {
			return err
		}
		progress(Event{Step: step.name, Index: i + 1, Total: len(steps), Done: true, Detail: detail})
	}
	return nil
}

func (w *build) extractModules(ctx context.Context) (string, error) {
	mods := w.plan.modules // holds those of the initramfs
	files, err := modules.Extract(ctx, w.in.Kernel, w.plan.Release.Kernel, mods, w.in.CacheDir)
	if err != nil {
		return "", err
	}
	w.files = map[string]string{}
	for i, m := range mods {
		w.files[m.Path] = files[i]
	}
	return fmt.Sprintf("%d of %d modules of kernel %s", len(mods), len(w.plan.index.Modules), w.plan.Release.Kernel), nil
}

// slot is the partition that the shipped root lies in.
func (w *build) slot() section {
	p := partition(w.disk, w.plan.layout, layout.RootA)
	return newSection(w.out, p.Start, p.Size)
}

func (w *build) writeRoot(context.Context) (string, error) {
	mods, err := moduleFiles(path.Join(layout.RootModules, w.plan.Release.Kernel), w.plan.modules, w.files)
	if err != nil {
		return "", err
	}
	slot := w.slot()
	entries := slices.Concat(w.plan.root, mods)
	for _, l := range slices.Concat(w.loaders, w.plan.boot) {
		if !w.byUBoot() || slices.Contains(layout.UBootFiles, l.Path) {
			entries = append(entries, rootfs.Bytes(path.Join(layout.RootLoader, l.Path), 0o644, l.Data))
		}
	}
	w.rootBytes, err = rootfs.Write(slot.OffsetWriter, entries, w.plan.Release.Epoch)
	if err != nil {
		return "", err
	}
	if err := w.plan.checkFit(w.rootBytes); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d files, %s", w.plan.Files, bytesText(w.rootBytes)), nil
}

func (w *build) writeVerity(ctx context.Context) (detail string, err error) {
	w.tree, err = verity.Append(ctx, w.slot(), w.rootBytes/layout.VerityBlock, verityParams(w.plan.Release))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("root hash %x", w.tree.RootHash), nil
}

func (w *build) makeInitramfs(context.Context) (string, error) {
	entries, err := initramfsTree(w.in, w.plan, w.files)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	if err := initramfs.Write(&buf, entries); err != nil {
		return "", err
	}
	w.initramfs = buf.Bytes()
	return fmt.Sprintf("%d modules, %s", len(w.plan.initramfs), bytesText(int64(len(w.initramfs)))), nil
}

func (w *build) makeUKI(context.Context) (detail string, err error) {
	r := w.plan.Release
	words := cmdline(w.in, r, hex.EncodeToString(w.tree.RootHash), w.tree.DataBlocks)
	sections := []uki.Section{
		{Name: uki.OSRel, Data: osRelease(r)},
		{Name: uki.Cmdline, Data: []byte(strings.Join(words, " "))},
		{Name: uki.Uname, Data: []byte(r.Kernel)},
	}
	for _, tree := range w.plan.trees {
		sections = append(sections, uki.Section{Name: uki.DTBAuto, Data: tree})
	}
	sections = append(sections, uki.Section{Name: uki.Linux, Data: w.plan.kernel}, uki.Section{Name: uki.Initrd, Data: w.initramfs})
	if w.in.PolicyKey != nil && !w.byUBoot() { // no machine that it starts has a TPM

		w.uki, err = uki.BuildVouched(w.plan.stub, sections, w.in.PolicyKey)
	} else {
		w.uki, err = uki.Build(w.plan.stub, sections)
	}
	if err != nil {
		return "", err
	}
	if room := manifest.StagedMax - maxSignature; int64(len(w.uki)) > room {
		return "", fmt.Errorf("kernel image of %s: an update stages it in %s of a slot", bytesText(int64(len(w.uki))), bytesText(room))
	}
	return fmt.Sprintf("%s, %s", layout.UKIName(r.Version), bytesText(int64(len(w.uki)))), nil
}

// maxSignature is more than signing adds to a kernel image.
const maxSignature = 16 << 10

func (w *build) sign(context.Context) (detail string, err error) {
	at := time.Unix(w.plan.Release.Epoch, 0)
	if w.uki, err = uki.Sign(w.uki, w.in.Keys, at); err != nil {
		return "", fmt.Errorf("kernel image: %w", err)
	}
	return w.in.Keys.Cert.Subject.String(), nil
}

// signLoaders comes before the root, which carries them for the day when boxes
// are told to renew theirs.
func (w *build) signLoaders(context.Context) (detail string, err error) {
	at := time.Unix(w.plan.Release.Epoch, 0)
	if !w.byUBoot() {
		w.loaders = loaders(w.plan.Release.Arch, w.plan.loader)
	}
	for i := range w.loaders {
		l := &w.loaders[i]
		if l.Data, err = uki.Sign(l.Data, w.in.Keys, at); err != nil {
			return "", fmt.Errorf("boot loader %s: %w", l.Path, err)
		}
	}
	return fmt.Sprintf("%d programs", len(w.loaders)), nil
}

// loaders puts the boot manager where it is started from: by the guard, or by
// the firmware itself.
func loaders(goarch string, manager []byte) []disk.FATFile {
	first := path.Join(layout.ESPLoader, layout.LoaderFile(goarch))
	program, ok := guard.Program(goarch)
	if !ok {
		return []disk.FATFile{{Path: first, Data: manager}}
	}
	return []disk.FATFile{{Path: first, Data: program}, {Path: layout.BootManager(goarch), Data: manager}}
}

func (w *build) byUBoot() bool { return w.in.Board.Boot == layout.BootUBoot }

// ukiName is the kernel image's name in a fresh image.
func ukiName(r release.Release, byUBoot bool) string {
	if byUBoot {
		return layout.ESPSlots[0]
	}
	return layout.UKIName(r.Version)
}

func (w *build) writeESP(context.Context) (string, error) {
	r := w.plan.Release
	files := append(w.loaders[:len(w.loaders):len(w.loaders)], w.plan.boot...)
	files = append(files, disk.FATFile{Path: path.Join(layout.ESPUKIDir, ukiName(r, w.byUBoot())), Data: w.uki})
	if !w.byUBoot() {
		files = append(files, disk.FATFile{Path: layout.ESPLoaderConf, Data: []byte(loaderConf(w.in.Enrol.mode()))})
	}
	auth, err := w.in.Enrol.files(time.Unix(r.Epoch, 0))
	if err != nil {
		return "", err
	}
	files = append(files, auth...)
	if w.in.Site != nil {
		files = append(files, disk.FATFile{Path: layout.ESPSite, Data: w.in.Site})
	}
	p := partition(w.disk, w.plan.layout, layout.ESP)
	volume := espVolume(p, r)
	if w.byUBoot() {
		volume.Reserved = recordSectors()
	}
	if err := disk.WriteFAT(newSection(w.out, p.Start, p.Size), volume, files); err != nil {
		return "", fmt.Errorf("boot partition: %w", err)
	}
	return fmt.Sprintf("%d files", len(files)), nil
}

func (w *build) writeGPT(context.Context) (string, error) {
	if err := disk.WriteGPT(w.out, w.size, w.disk); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d partitions, disk %s", len(w.disk.Partitions), w.disk.GUID), nil
}

// finish gives the image its name. It is not synced: it can be built again.
func (w *build) finish(name string) (Result, error) {
	stored, err := storedBytes(w.out)
	if err == nil {
		err = w.out.Chmod(0o644)
	}
	sbom, provenance := Beside(name, SBOMSuffix), Beside(name, ProvenanceSuffix)
	if err == nil {
		err = w.writeBeside(sbom, w.plan.sbom)
	}
	if err == nil {
		err = w.writeBeside(provenance, w.provenance)
	}
	if closeErr := w.out.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(w.out.Name(), name)
	}
	if err != nil {
		return Result{}, fmt.Errorf("write image: %w", err)
	}
	return Result{
		Path: name, SBOM: sbom, Provenance: provenance, Size: w.size, Stored: stored,
		RootHash: hex.EncodeToString(w.tree.RootHash), UKIBytes: int64(len(w.uki)), RootBytes: w.tree.Size,
	}, nil
}
