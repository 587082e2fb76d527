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
	fl.StringVar(&f.cache, "cache", "", "`folder` of fetched packages (default: wayside in the user's cache folder)")
	fl.StringVar(&f.lock, "lock", "", "package lock `file` (default: the one this program was built with)")
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
	firmware       *qemu.Firmware
}

func fetchBoard(ctx context.Context, store *debian.Store, lock debian.Lock, b boards.Board) (p boardPackages, err error) {
	get := func(name string) (debian.Package, error) {
		locked, err := lock.Package(b.Arch, name)
		if err != nil {
			return debian.Package{}, err
		}
		return store.Package(ctx, locked)
	}
	if p.kernel, err = get(b.Packages.Kernel); err != nil {
		return p, err
	}
	if p.loader, err = get(b.Packages.Loader); err != nil || b.QEMU == nil {
		return p, err
	}
	firmware, err := get(b.QEMU.Firmware)
	if err != nil {
		return p, err
	}
	p.firmware = &qemu.Firmware{Code: firmware.Path(b.QEMU.Code), Vars: firmware.Path(b.QEMU.Vars)}
	return p, nil
}
