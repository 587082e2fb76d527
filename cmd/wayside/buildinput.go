package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/rootfs"
	"github.com/waysideos/wayside/overlays"
	"github.com/waysideos/wayside/qemu"
)

// prepare gathers everything that an image is made of. cleanup is never nil
// and removes the compiled programs.
func prepare(ctx context.Context, o buildOptions, p *progress) (b *image.Builder, fw *qemu.Firmware, cleanup func(), err error) {
	cleanup = func() {}
	in, err := o.input()
	if err != nil {
		return nil, nil, cleanup, err
	}
	lock, err := o.archive.readLock()
	if err != nil {
		return nil, nil, cleanup, err
	}
	if in.Epoch == 0 {
		in.Epoch = lock.Date.Unix()
	}
	source, err := sourceDir(ctx, o.source)
	if err != nil {
		return nil, nil, cleanup, err
	}
	dir, remove, err := newBuildDir()
	if err != nil {
		return nil, nil, cleanup, err
	}
	// The compiler works while packages are looked up and the image is planned.
	arch := in.Board.Arch
	ctx, stop := context.WithCancel(ctx)
	c := startCompiler(func() (string, string, error) {
		init, services, err := compileAll(ctx, source, arch, dir)
		if err == nil {
			p.done("compile", "init and services for linux/%s", arch)
		}
		return init, services, err
	})
	cleanup = func() {
		stop()
		<-c.over
		remove()
	}
	b = &image.Builder{Compile: c.wait}
	if fw, err = o.addPackages(ctx, &in, lock, p); err != nil {
		return nil, nil, cleanup, err
	}
	b.Input = in
	return b, fw, cleanup, nil
}

// input is what needs no network and no compiler; a mistake in it shows at
// once.
func (o *buildOptions) input() (image.Input, error) {
	in := image.Input{Version: o.version, Epoch: o.epoch, Counter: o.counter,
		Source: attest.Source{URI: o.sourceURI, Commit: o.sourceCommit}}
	var err error
	if in.Board, err = boards.Get(o.board); err != nil {
		return in, err
	}
	r := release.Release{Version: o.version, Board: in.Board.Slug, Epoch: cmp.Or(o.epoch, 1), Counter: o.counter}
	if err := r.Validate(); err != nil {
		return in, err
	}
	if err := o.enrol.check(); err != nil {
		return in, err
	}
	if o.site != "" {
		if _, in.Site, err = loadSite(o.site); err != nil {
			return in, err
		}
	}
	if in.Overlays, err = overlayEntries("base"); err != nil {
		return in, err
	}
	for _, dir := range o.overlays {
		entries, err := overlays.Read(os.DirFS(dir))
		if err != nil {
			return in, fmt.Errorf("overlay %s: %w", dir, err)
		}
		in.Overlays = append(in.Overlays, rootEntries(entries)...)
	}
	in.Board.Modules.Root = append(in.Board.Modules.Root, o.modules...)
	dir, err := keysDir(o.keys.dir)
	if err != nil {
		return in, err
	}
	pass, err := o.keys.passphrase()
	if err != nil {
		return in, err
	}
	if in.Keys, _, err = keys.LoadOrCreate(dir, pass); err != nil {
		return in, err
	}
	if in.UpdateRoot, err = keys.UpdateRoot(dir); err != nil {
		return in, err
	}
	if in.PolicyKey, err = keys.LoadOrCreatePolicy(dir, pass); err != nil {
		return in, err
	}
	switch o.encryption {
	case "tpm":
		in.Encrypt = true
	case "off":
	default:
		return in, fmt.Errorf("--encryption %q: it is tpm or off", o.encryption)
	}
	if in.CacheDir, err = o.archive.cacheDir(); err != nil {
		return in, err
	}
	in.CacheDir = filepath.Join(in.CacheDir, "derived")
	return in, nil
}

func (o *buildOptions) addPackages(ctx context.Context, in *image.Input, lock debian.Lock, p *progress) (*qemu.Firmware, error) {
	fetch := newFetchLine(p.w)
	store, err := o.archive.store(lock, p.w, fetch.update)
	if err != nil {
		return nil, err
	}
	pkgs, err := fetchBoard(ctx, store, lock, in.Board)
	fetch.end()
	if err != nil {
		return nil, err
	}
	if err := o.addEnrolment(in, pkgs.vendorVars); err != nil {
		return nil, err
	}
	in.Kernel, in.Loader = pkgs.kernel.FS(), pkgs.loader.FS()
	for _, pkg := range pkgs.devices {
		in.Firmware = append(in.Firmware, pkg.FS())
	}
	for _, pkg := range pkgs.programs {
		in.Programs = append(in.Programs, pkg.FS())
	}
	for _, pkg := range pkgs.boot {
		in.Boot = append(in.Boot, pkg.FS())
	}
	for _, pkg := range slices.Concat([]debian.Package{pkgs.kernel, pkgs.loader}, pkgs.devices, pkgs.programs, pkgs.boot) {
		// A package may have firmware for the machine and for its devices.
		if slices.ContainsFunc(in.Packages, func(p image.Package) bool { return p.SHA256 == pkg.SHA256 }) {
			continue
		}
		in.Packages = append(in.Packages, image.Package{
			Name: pkg.Name, Version: pkg.Version, Arch: pkg.Arch, SHA256: pkg.SHA256,
		})
	}
	p.done("packages", "%s %s, %s %s", pkgs.kernel.Name, pkgs.kernel.Version, pkgs.loader.Name, pkgs.loader.Version)
	return pkgs.firmware, nil
}

func (o *buildOptions) addEnrolment(in *image.Input, vendorVars string) error {
	var err error
	in.Enrol, err = o.enrol.enrolment(o.keys, vendorVars)
	return err
}

// overlayEntries turns overlays into entries of the root tree, in order.
func overlayEntries(names ...string) ([]rootfs.Entry, error) {
	var all []rootfs.Entry
	for _, name := range names {
		entries, err := overlays.Load(name)
		if err != nil {
			return nil, err
		}
		all = append(all, rootEntries(entries)...)
	}
	return all, nil
}

func rootEntries(entries []overlays.Entry) (all []rootfs.Entry) {
	for _, e := range entries {
		all = append(all, overlayEntry(e))
	}
	return all
}

func overlayEntry(e overlays.Entry) rootfs.Entry {
	r := rootfs.Entry{Path: e.Path}
	switch {
	case e.Mode.IsDir():
		r = rootfs.Dir(e.Path, e.Mode)
	case e.Mode&fs.ModeSymlink != 0:
		r = rootfs.Symlink(e.Path, e.Link)
	default:
		r = rootfs.Bytes(e.Path, e.Mode, e.Data)
	}
	r.Mode, r.UID, r.GID = e.Mode, e.UID, e.GID
	return r
}
