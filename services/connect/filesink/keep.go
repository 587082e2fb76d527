package filesink

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/vfs"
)

// done is a file that is complete.
type done struct {
	name    string
	size    int64
	changed time.Time
}

// complete lists the files whose names are ours, oldest first.
func complete(fsys vfs.FS, names *regexp.Regexp, depth int) ([]done, error) {
	var all []done
	var walk func(dir string, depth int) error
	walk = func(dir string, depth int) error {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case e.IsDir() && depth > 0 && !strings.HasPrefix(e.Name(), "."):
				if err := walk(name, depth-1); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			case e.Type().IsRegular() && names.MatchString(name):
				if info, err := e.Info(); err == nil { // else it was taken away meanwhile
					all = append(all, done{name, info.Size(), info.ModTime()})
				}
			}
		}
		return nil
	}
	if err := walk(".", depth); err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	slices.SortFunc(all, func(a, b done) int {
		return cmp.Or(a.changed.Compare(b.changed), cmp.Compare(a.name, b.name))
	})
	return all, nil
}

// prune removes the oldest files beyond what is to be kept, but for the one
// that is new.
func (w *writer) prune(newest string) error {
	if w.keepFiles == 0 && w.keepBytes == 0 {
		return nil
	}
	all, err := complete(w.fs, w.ours, w.names.depth())
	if err != nil {
		return err
	}
	count, bytes := len(all), int64(0)
	for _, d := range all {
		bytes += d.size
	}
	for _, d := range all {
		if (w.keepFiles == 0 || count <= w.keepFiles) && (w.keepBytes == 0 || bytes <= w.keepBytes) {
			break
		}
		if d.name == newest {
			continue
		}
		if err := w.fs.Remove(d.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old file: %w", err)
		}
		count, bytes = count-1, bytes-d.size
		w.removed++
	}
	return nil
}
