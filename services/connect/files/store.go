package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// store is where files lie.
type store interface {
	io.Closer
	// list returns the folder's regular files.
	list() ([]file, error)
	// openAt reads a file from an offset on.
	openAt(name string, offset int64) (io.ReadCloser, error)
	// finish moves a file to a folder, or deletes it where archive is "".
	finish(name, archive string) error
}

// file is one in a store.
type file struct {
	name    string
	size    int64
	changed time.Time
}

// errConnection marks errors after which a server must be dialled again.
var errConnection = errors.New("the connection is lost")

// serverTimeout is how long a server may say nothing.
const serverTimeout = 30 * time.Second

func openStore(ctx context.Context, cfg site.Files, box *connect.Box) (store, error) {
	if strings.HasPrefix(cfg.Folder, "/") {
		return local(cfg.Folder), nil
	}
	u, err := url.Parse(cfg.Folder)
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	if u.Scheme == "sftp" {
		return dialSFTP(ctx, cfg, u, box)
	}
	return dialFTP(ctx, cfg, u, box)
}

// local is a folder on the box.
type local string

func (l local) Close() error { return nil }

func (l local) list() ([]file, error) {
	entries, err := os.ReadDir(string(l))
	if err != nil {
		return nil, err
	}
	var all []file
	for _, e := range entries {
		if !e.Type().IsRegular() { // a link may lead anywhere
			continue
		}
		if info, err := e.Info(); err == nil { // else it went meanwhile
			all = append(all, file{e.Name(), info.Size(), info.ModTime()})
		}
	}
	return all, nil
}

func (l local) openAt(name string, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(string(l), name))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (l local) finish(name, archive string) error {
	from := filepath.Join(string(l), name)
	if archive == "" {
		return errors.Join(os.Remove(from), syncFolder(string(l)))
	}
	if !filepath.IsAbs(archive) {
		archive = filepath.Join(string(l), archive)
	}
	if err := os.MkdirAll(archive, 0o755); err != nil {
		return err
	}
	to := free(filepath.Join(archive, name), func(p string) bool { _, err := os.Lstat(p); return err == nil })
	return errors.Join(os.Rename(from, to), syncFolder(archive), syncFolder(string(l)))
}

// syncFolder has a power cut not bring back a name whose mark is forgotten.
func syncFolder(dir string) error { return vfs.OS(dir).SyncDir(".") }

// free is a path where nothing is yet: the archive loses nothing to a file
// that has the name of an earlier one.
func free(path string, taken func(string) bool) string {
	next := path
	for n := 1; taken(next) && n < 10000; n++ {
		next = fmt.Sprintf("%s.%d", path, n)
	}
	return next
}
