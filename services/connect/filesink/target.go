package filesink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// errAway is of a stick that is not plugged in.
var errAway = errors.New("no stick")

// target is where files go. It may go away while it is written to: then all
// that is tried on it fails.
type target func() (vfs.FS, error)

func newTarget(cfg *site.FileSink) target {
	if cfg.Stick != "" {
		return func() (vfs.FS, error) { return stick(manifest.RemovableDir, cfg.Stick) }
	}
	return func() (vfs.FS, error) { return folder(cfg.Folder) }
}

// folder makes what is missing of a path, so that a power cut does not take it
// away again.
func folder(dir string) (vfs.FS, error) {
	var above []string
	for missing := dir; ; missing = filepath.Dir(missing) {
		if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
			break
		}
		above = append(above, filepath.Dir(missing))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, d := range above {
		if err := vfs.OS(d).SyncDir("."); err != nil {
			return nil, err
		}
	}
	return vfs.OS(dir), nil
}

// stick is the folder of a removable disk that is plugged in. init mounts
// those that have it so that connectors may write.
func stick(below, folder string) (vfs.FS, error) {
	found, err := filepath.Glob(filepath.Join(below, "*", folder))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("%w with a folder %s is plugged in", errAway, folder)
	}
	return vfs.OS(found[0]), nil
}

// Room that is left to others: a disk that is full to the last block is
// trouble for all that lives on it.
const (
	leastRoom = 64 << 20
	roomPart  = 20 // of the disk, where that is less
)

// room says whether there is room to go on.
func room(fsys vfs.FS) error {
	s, ok := fsys.(vfs.Spacer)
	if !ok {
		return nil
	}
	free, total, err := s.Space()
	if err != nil {
		return fmt.Errorf("measure room: %w", err)
	}
	if free < min(leastRoom, total/roomPart) {
		return fmt.Errorf("%w: %d MB of %d MB are free; take files away, or set keep", errFull, free>>20, total>>20)
	}
	return nil
}

var errFull = errors.New("the disk is full")
