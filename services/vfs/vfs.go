// Package vfs is the one door to the disk for everything that promises to
// survive a power cut: the real file system, and a crashable twin for tests
// that forgets whatever was not synced.
package vfs

import (
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
