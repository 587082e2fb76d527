package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/waysideos/wayside/services/vfs"
)

// dir holds the newest metadata that was believed, one file a role, as it was
// signed: docs/formats/updater-state.md.
const dir = "tuf"

func fileOf(role string) string { return path.Join(dir, role+".json") }

// load reads the stored metadata of a role; nil if there is none.
func load(fsys vfs.FS, role string) ([]byte, error) {
	data, err := read(fsys, fileOf(role), most(role))
	if err != nil {
		return nil, fmt.Errorf("read stored %s metadata: %w", role, err)
	}
	return data, nil
}

// read gives the whole of a file of at most limit bytes, nil if it is not there.
func read(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	data, err := vfs.ReadWhole(fsys, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// save replaces the stored metadata of a role; after a power cut there is the
// old or the new.
func save(fsys vfs.FS, role string, data []byte) error {
	if err := vfs.WriteWhole(fsys, fileOf(role), data); err != nil {
		return fmt.Errorf("keep %s metadata: %w", role, err)
	}
	return nil
}

// rootsDir keeps every root that was followed, for other boxes that are at an
// older one.
const rootsDir = dir + "/roots"

func saveRoot(fsys vfs.FS, name string, data []byte) error {
	if err := vfs.WriteWhole(fsys, path.Join(rootsDir, name), data); err != nil {
		return fmt.Errorf("keep root metadata: %w", err)
	}
	return save(fsys, metadata.ROOT, data)
}

// SharedFile is a metadata file under the name that a repository has it by:
// timestamp.json, N.snapshot.json, N.targets.json or N.root.json.
func SharedFile(fsys vfs.FS, name string) ([]byte, error) {
	if name == metadata.TIMESTAMP+".json" {
		return there(load(fsys, metadata.TIMESTAMP))
	}
	version, role, ok := strings.Cut(strings.TrimSuffix(name, ".json"), ".")
	n, err := strconv.ParseInt(version, 10, 64)
	if !ok || err != nil || name != fmt.Sprintf("%d.%s.json", n, role) {
		return nil, fs.ErrNotExist
	}
	switch role {
	case metadata.ROOT:
		return there(read(fsys, path.Join(rootsDir, name), most(role)))
	case metadata.SNAPSHOT, metadata.TARGETS:
		data, err := there(load(fsys, role))
		if err != nil {
			return nil, err
		}
		var have struct{ Signed struct{ Version int64 } }
		if err := json.Unmarshal(data, &have); err != nil || have.Signed.Version != n {
			return nil, fs.ErrNotExist
		}
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func there(data []byte, err error) ([]byte, error) {
	if err == nil && data == nil {
		err = fs.ErrNotExist
	}
	return data, err
}
