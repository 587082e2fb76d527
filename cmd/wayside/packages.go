package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/qemu"
)

// archiveFlags say where Debian packages come from and are kept.
type archiveFlags struct {
	mirror      mirrorFlags
	cache, lock string
}

func (f *archiveFlags) add(cmd *cobra.Command) {
	f.mirror.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.cache, "cache", "", "folder `DIR` of fetched packages (default: wayside in the user's cache folder)")
	fl.StringVar(&f.lock, "lock", "", "package lock `FILE` (default: the one this program was built with)")
}

// readLock reads the lock file given, or the one built in.
func (f *archiveFlags) readLock() (debian.Lock, error) {
	data, err := boards.Lock()
	if f.lock != "" {
		data, err = os.ReadFile(f.lock)
	}
	if err != nil {
		return debian.Lock{}, fmt.Errorf("read package lock: %w", err)
	}
	return debian.ParseLock(data)
}

// cacheDir is the folder given, or the user's own.
func (f *archiveFlags) cacheDir() (string, error) {
	if f.cache != "" {
		return filepath.Abs(f.cache)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the cache: %v; give --cache DIR", err)
	}
	return filepath.Join(base, "wayside"), nil
}

// store opens the package cache; the mirror is looked for only when something
// must be fetched. fetched is told of every package on its way.
func (f *archiveFlags) store(lock debian.Lock, w io.Writer, fetched func(p debian.LockedPackage, done int64)) (*debian.Store, error) {
	dir, err := f.cacheDir()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(w, nil))
	return debian.OpenStore(debian.StoreConfig{
		Dir: filepath.Join(dir, "packages"), Lock: lock, Progress: fetched, Log: log,
		Archive: func() (*debian.Archive, error) { return f.mirror.archive(log) },
	})
}

// boardPackages are the packages that a board's image is made of, and the
// firmware that QEMU plays the board with, if it can.
type boardPackages struct {
	kernel, loader debian.Package
	devices        []debian.Package // firmware that devices load
	programs       []debian.Package
	boot           []debian.Package // what the machine's own firmware loads
	firmware       *qemu.Firmware
	vendorVars     string // see boards.QEMU; "" for none
}

func fetchBoard(ctx context.Context, store *debian.Store, lock debian.Lock, b boards.Board) (p boardPackages, err error) {
	if p.kernel, err = fetchPackage(ctx, store, lock, b.Arch, b.Packages.Kernel); err != nil {
		return p, err
	}
	if p.loader, err = fetchPackage(ctx, store, lock, b.Arch, b.Packages.Loader); err != nil {
		return p, err
	}
	if p.devices, err = fetchAll(ctx, store, lock, b.Arch, b.Firmware.Packages); err != nil {
		return p, err
	}
	if p.programs, err = fetchAll(ctx, store, lock, b.Arch, b.Programs.Packages); err != nil {
		return p, err
	}
	if p.boot, err = fetchAll(ctx, store, lock, b.Arch, b.BootPackages()); err != nil || b.QEMU == nil {
		return p, err
	}
	if b.QEMU.Plays != "" {
		p.firmware = &qemu.Firmware{}
		return p, nil
	}
	pkg, err := fetchPackage(ctx, store, lock, b.Arch, b.QEMU.Firmware)
	if err != nil {
		return p, err
	}
	firmware := firmwareFiles(pkg, b)
	p.firmware = &firmware
	if b.QEMU.VendorVars != "" {
		p.vendorVars = pkg.Path(b.QEMU.VendorVars)
	}
	return p, nil
}

// boardFirmware is the firmware that QEMU plays the board with.
func boardFirmware(ctx context.Context, store *debian.Store, lock debian.Lock, b boards.Board) (qemu.Firmware, error) {
	if b.QEMU.Plays != "" {
		return qemu.Firmware{}, nil
	}
	pkg, err := fetchPackage(ctx, store, lock, b.Arch, b.QEMU.Firmware)
	if err != nil {
		return qemu.Firmware{}, err
	}
	return firmwareFiles(pkg, b), nil
}

func firmwareFiles(pkg debian.Package, b boards.Board) qemu.Firmware {
	fw := qemu.Firmware{Code: pkg.Path(b.QEMU.Code), Vars: pkg.Path(b.QEMU.Vars)}
	if b.QEMU.SecureCode != "" {
		fw.SecureCode = pkg.Path(b.QEMU.SecureCode)
	}
	return fw
}

func fetchAll(ctx context.Context, store *debian.Store, lock debian.Lock, arch string, names []string) (all []debian.Package, err error) {
	for _, name := range names {
		pkg, err := fetchPackage(ctx, store, lock, arch, name)
		if err != nil {
			return nil, err
		}
		all = append(all, pkg)
	}
	return all, nil
}

// fetchPackage gets what the lock names from the cache or the mirror.
func fetchPackage(ctx context.Context, store *debian.Store, lock debian.Lock, arch, name string) (debian.Package, error) {
	locked, err := lock.Package(arch, name)
	if err != nil {
		return debian.Package{}, err
	}
	return store.Package(ctx, locked)
}
