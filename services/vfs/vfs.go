// Package vfs is the one door to the disk for everything that promises to
// survive a power cut: the real file system, and a crashable twin for tests
// that forgets whatever was not synced.
package vfs

import (
	"bytes"
	"io"
	"io/fs"
)

// File is an open regular file. Writes reach stable storage only by Sync.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync returns when the file's data, and the metadata needed to read it
	// back, are on stable storage (fdatasync). After an error nothing may be
	// assumed of what was written since the last success, and calling Sync
	// again proves nothing.
	Sync() error
	// Truncate sets the size, in bytes.
	Truncate(size int64) error
	// Size is the current size, in bytes.
	Size() (int64, error)
}

// FS is a directory tree. Names are slash-separated and relative to its root.
// Creating, renaming and removing are durable only after SyncDir of the
// parent. Errors match fs.ErrNotExist, fs.ErrExist and syscall errnos such as
// ENOSPC by errors.Is.
type FS interface {
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Create opens a file for reading and writing, made or emptied.
	Create(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// MkdirAll makes a directory and its parents, mode 0750.
	MkdirAll(dir string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(dir string) ([]fs.DirEntry, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

// ReadOpener is what an FS offers where there may be files that its user may
// read and not write. An FS without it has none.
type ReadOpener interface {
	// OpenRead opens an existing file for reading; writing to it fails.
	OpenRead(name string) (File, error)
}

// OpenRead opens an existing file of which nothing will be changed.
func OpenRead(fsys FS, name string) (File, error) {
	if r, ok := fsys.(ReadOpener); ok {
		return r.OpenRead(name)
	}
	return fsys.Open(name)
}

// CacheDropper is what a File offers when it can make the operating system
// forget what it holds of it in memory.
type CacheDropper interface {
	// DropCache makes n bytes from off on, all when n is 0, come from the disk
	// when they are read next. What is written and not synced stays. It is a
	// request: pages in use at this moment may stay too.
	DropCache(off, n int64) error
}

// Reserver is what a File offers when room on the disk can be kept for what
// will be written behind its end.
type Reserver interface {
	// Reserve keeps room for n bytes from off on. The size stays. A file
	// system that cannot do it says so by an error; a full one may have kept
	// some of it.
	Reserve(off, n int64) error
	// Unreserve gives back what is kept behind the end.
	Unreserve() error
}

// AllSyncer is what an FS offers when it can sync everything at once.
type AllSyncer interface {
	// SyncAll returns when all data written and all names are on stable
	// storage (syncfs). What an earlier failed sync has lost is not brought
	// back.
	SyncAll() error
}

// Distrust makes f be read from the disk from off on. After a failed sync the
// page cache holds what the disk does not, and says nothing of it: whoever
// recovers a file asks for this first. synced says that the caller has just
// synced everything. A sync that fails is no reason to stop: what it lost is
// dropped with the rest, and recovery sees what is left.
func Distrust(f File, off int64, synced bool) error {
	d, ok := f.(CacheDropper)
	if !ok {
		return nil
	}
	if !synced {
		f.Sync()
	}
	return d.DropCache(off, 0)
}

// sectorBytes is the least that a disk writes.
const sectorBytes = 512

// Settle syncs the first size bytes of f as they read after Distrust. When
// they end in zeros it writes the last again: a size that grew by writes whose
// sync failed is in memory only, and what was never written there reads as
// zeros. skip leaves out the sync when nothing was written.
func Settle(f File, size int64, skip bool) error {
	tail := make([]byte, (size-1)%sectorBytes+1)
	if size > 0 {
		n, err := f.ReadAt(tail, size-int64(len(tail)))
		if n < len(tail) {
			return err
		}
		if bytes.Count(tail, []byte{0}) == len(tail) {
			skip = false
			if _, err := f.WriteAt(tail[len(tail)-1:], size-1); err != nil {
				return err
			}
		}
	}
	if skip {
		return nil
	}
	return f.Sync()
}
