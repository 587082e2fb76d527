// Package initramfs writes the kernel's first file system: a cpio archive in
// newc format.
package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/waysideos/wayside/image/rootfs"
)

// Write writes the entries, which rootfs.Complete orders and completes, as one
// archive. Every file belongs to root and is of time 0.
//
// It is not compressed. init and modules are files of the root too, byte for
// byte: an update finds them there and fetches nothing, where any compression
// would make one changed file a change of all that follow. The UKI is some 20
// MiB larger for it on the boot partition, and smaller by as much as that
// compresses in every download.
func Write(w io.Writer, entries []rootfs.Entry) error {
	all, err := rootfs.Complete(entries)
	if err != nil {
		return err
	}
	archive := cpio.Newc.Writer(w)
	for i, e := range all {
		if e.Path == "/" {
			continue // the kernel has made it
		}
		rec, err := record(e, uint64(i))
		if err != nil {
			return err
		}
		if err := archive.WriteRecord(rec); err != nil {
			return fmt.Errorf("write initramfs: %s: %w", e.Path, err)
		}
	}
	if err := cpio.WriteTrailer(archive); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// record turns an entry into a cpio record. The inode number is unique: equal
// ones would make files of one inode hard links.
func record(e rootfs.Entry, ino uint64) (cpio.Record, error) {
	name := strings.TrimPrefix(e.Path, "/")
	perm := unixPerm(e.Mode)
	var rec cpio.Record
	switch {
	case e.Mode.IsDir():
		rec = cpio.Directory(name, perm)
		rec.NLink = 2
	case e.Mode&fs.ModeSymlink != 0:
		rec = cpio.Symlink(name, e.Link)
		rec.NLink = 1
	case e.Mode&fs.ModeCharDevice != 0:
		rec = cpio.CharDev(name, perm, uint64(e.Major), uint64(e.Minor))
		rec.NLink = 1
	case e.Mode.IsRegular():
		data, err := content(e)
		if err != nil {
			return cpio.Record{}, err
		}
		rec = cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | perm, NLink: 1})
	default:
		return cpio.Record{}, fmt.Errorf("write initramfs: %s: mode %v has no place in an initramfs", e.Path, e.Mode)
	}
	rec.Ino = ino
	rec.UID, rec.GID, rec.MTime = 0, 0, 0
	return rec, nil
}

func unixPerm(mode fs.FileMode) uint64 {
	perm := uint64(mode.Perm())
	for bit, unix := range map[fs.FileMode]uint64{fs.ModeSetuid: cpio.S_ISUID, fs.ModeSetgid: cpio.S_ISGID, fs.ModeSticky: cpio.S_ISVTX} {
		if mode&bit != 0 {
			perm |= unix
		}
	}
	return perm
}

func content(e rootfs.Entry) ([]byte, error) {
	if e.Open == nil {
		return nil, nil
	}
	r, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("write initramfs: %s: %w", e.Path, err)
	}
	defer r.Close()
	buf := bytes.NewBuffer(make([]byte, 0, e.Size+bytes.MinRead))
	if _, err := buf.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("write initramfs: %s: %w", e.Path, err)
	}
	if int64(buf.Len()) != e.Size {
		return nil, fmt.Errorf("write initramfs: %s: content has %d bytes, %d were announced", e.Path, buf.Len(), e.Size)
	}
	return buf.Bytes(), nil
}
