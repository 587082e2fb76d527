package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	buildDirs = "wayside-build-"
	// youngest keeps what a build has made and not locked yet.
	youngest = time.Hour
)

// newBuildDir makes a folder for compiled programs, which remove takes away. A
// build that was killed leaves its own behind, and with it the lock on it: the
// next one removes those.
func newBuildDir() (dir string, remove func(), err error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), buildDirs+"*"))
	for _, old := range left {
		info, err := os.Lstat(old)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < youngest {
			continue
		}
		if f, err := lockDir(old); err == nil {
			os.RemoveAll(old)
			f.Close()
		}
	}
	if dir, err = os.MkdirTemp("", buildDirs); err != nil {
		return "", nil, fmt.Errorf("make a folder for the compiled programs: %w", err)
	}
	f, err := lockDir(dir)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("make a folder for the compiled programs: %w", err)
	}
	return dir, func() {
		os.RemoveAll(dir)
		f.Close()
	}, nil
}

// lockDir locks a folder for as long as its file is open, if nobody has.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}
