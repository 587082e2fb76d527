package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// TryLock takes the lock that the file at path stands for, making the file if
// needed. ok is false when another process, or another caller in this one,
// holds it. The lock goes with the process, however that ends.
func TryLock(path string) (release func(), ok bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, true, nil
}

// MakeWork makes a fresh folder below parent and removes those whose owner
// has died without doing so. remove ends the ownership and the folder, and
// parent with the last one.
func MakeWork(parent string) (dir string, remove func() error, err error) {
	for range 3 { // another's remove may take parent away in between
		if err = os.MkdirAll(parent, 0o700); err != nil {
			break
		}
		sweep(parent)
		if dir, err = os.MkdirTemp(parent, "vm-"); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("make work folder: %w", err)
	}
	release, ok, err := TryLock(dir + ".lock")
	if err != nil || !ok {
		os.Remove(dir)
		return "", nil, fmt.Errorf("own work folder %s: %v", dir, err)
	}
	return dir, func() error {
		err := os.RemoveAll(dir)
		os.Remove(dir + ".lock")
		release()
		os.Remove(parent) // fails while others are in it
		return err
	}, nil
}

// sweep removes the folders whose lock is free. A folder whose owner has not
// taken the lock yet has no lock file and is left alone.
func sweep(parent string) {
	locks, _ := filepath.Glob(filepath.Join(parent, "vm-*.lock"))
	for _, lock := range locks {
		release, ok, err := TryLock(lock)
		if err != nil || !ok {
			continue
		}
		os.RemoveAll(lock[:len(lock)-len(".lock")])
		os.Remove(lock)
		release()
	}
}
