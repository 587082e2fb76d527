package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const tempPrefix = ".tmp-"

// folder writes the files of a repository, each under a temporary name until
// it is whole and synced.
type folder struct {
	dir string
	// before, set by tests, is told of every step and may refuse it.
	before func(op, name string) error
}

func (d folder) step(op, name string) error {
	if d.before == nil {
		return nil
	}
	return d.before(op, name)
}

func (d folder) path(name string) string { return filepath.Join(d.dir, filepath.FromSlash(name)) }

// temp is a file in the making. Close without keep drops it.
type temp struct {
	*os.File
	d folder
}

// create begins a file in the folder that name lies in.
func (d folder) create(name string) (*temp, error) {
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	dir := filepath.Dir(d.path(name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return nil, err
	}
	return &temp{File: f, d: d}, nil
}

// keep syncs the file and gives it its name.
func (t *temp) keep(name string) error {
	for _, s := range []struct {
		op string
		do func() error
	}{
		{"sync", t.Sync},
		{"chmod", func() error { return t.Chmod(0o644) }},
		{"rename", func() error { return os.Rename(t.Name(), t.d.path(name)) }},
		{"sync folder", func() error { return syncDir(filepath.Dir(t.d.path(name))) }},
	} {
		if err := t.d.step(s.op, name); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// drop closes the file and removes it if it was not kept.
func (t *temp) drop() {
	t.Close()
	os.Remove(t.Name())
}

func (d folder) write(name string, data []byte) error {
	t, err := d.create(name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer t.drop()
	if _, err = t.Write(data); err == nil {
		err = t.keep(name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// stored is a target file that lies in the repository.
type stored struct {
	length int64
	sha256 []byte
}

// store writes a target file under its consistent-snapshot name.
func (d folder) store(name string, content func(io.Writer) error) (stored, error) {
	t, err := d.create(targetFile(name, nil))
	if err != nil {
		return stored{}, fmt.Errorf("write %s: %w", name, err)
	}
	defer t.drop()
	h := sha256.New()
	count := &counter{}
	if err = content(io.MultiWriter(t, h, count)); err == nil {
		err = t.keep(targetFile(name, h.Sum(nil)))
	}
	if err != nil {
		return stored{}, fmt.Errorf("write %s: %w", name, err)
	}
	return stored{length: count.n, sha256: h.Sum(nil)}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// targetsDir holds the target files; metadata lies beside it.
const targetsDir = "targets"

// targetFile is where a target lies: the hash stands before the last element
// of its path (TUF, section 6.2).
func targetFile(target string, sum []byte) string {
	dir, base := filepath.Split(filepath.FromSlash(target))
	return filepath.ToSlash(filepath.Join(targetsDir, dir, hex.EncodeToString(sum)+"."+base))
}

// sweep removes temporary files, and target files that are not in keep, which
// may be nil to keep all.
func (d folder) sweep(keep map[string]bool) error {
	err := filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(d.dir, p)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		stale := strings.HasPrefix(e.Name(), tempPrefix)
		if keep != nil && strings.HasPrefix(name, targetsDir+"/") && !keep[name] {
			stale = true
		}
		if !stale {
			return nil
		}
		if err := d.step("remove", name); err != nil {
			return err
		}
		if err := os.Remove(p); err != nil {
			return err
		}
		_ = os.Remove(filepath.Dir(p)) // if it is empty now
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lock keeps other publishers out; the kernel drops it with the process.
func (d folder) lock() (unlock func(), err error) {
	f, err := os.OpenFile(d.path(".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another wayside publish is at work in it")
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrInvalid) {
		return err
	}
	return nil
}
