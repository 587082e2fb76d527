package frame

import (
	"fmt"
	"io"
	"path"

	"github.com/waysideos/wayside/services/vfs"
)

// ReadFile reads a whole file.
func ReadFile(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f)
}

// ReadAll reads a whole open file.
func ReadAll(f vfs.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); int64(n) < size && err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// WriteFile replaces name by data, durably when it returns. When the
// directory sync fails the new content may be in force or not: that error
// matches none, so that nobody takes it for a full disk and goes on.
func WriteFile(fsys vfs.FS, name string, data []byte) error {
	if err := Replace(fsys, name, data); err != nil {
		return err
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("sync directory of %s: %v", name, err)
	}
	return nil
}

// Replace replaces name by data so that a power cut at any instant leaves the
// old content or the new one, whole: a temporary file is synced and renamed
// over name. Which of the two is decided by the directory's next sync.
func Replace(fsys vfs.FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := WriteSynced(fsys, tmp, data); err != nil {
		return err
	}
	return fsys.Rename(tmp, name)
}

// WriteSynced writes and syncs a file; its name is not durable yet.
func WriteSynced(fsys vfs.FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}
