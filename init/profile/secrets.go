package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// Bounds of a set of secret files.
const (
	MaxSecrets    = site.MaxSecrets
	MaxSecretSize = site.MaxSecretSize
	maxSecretName = site.MaxSecretName

	// maxEntries bounds the folder with what file managers leave in it: macOS
	// puts a hidden file beside each that it copies.
	maxEntries = 4 * MaxSecrets
)

// keptSecrets holds the set in force, below the state partition. It is one
// file, so that a power cut leaves the whole old set or the whole new one:
// files of their own could be a certificate of one and a key of the other.
const keptSecrets = "site/secrets.json"

// maxKept is the most that keptSecrets is read of, in bytes: the largest set
// in base64, and its names.
const maxKept = 8 << 20

// kept is what keptSecrets holds.
type kept struct {
	Version int               `json:"version"` // 1
	Files   map[string][]byte `json:"files"`
}

const keptVersion = 1

// SecretsConfig says where secret files are read and kept.
type SecretsConfig struct {
	// Boot is ReadSecrets on the boot partition.
	Boot  func() (map[string][]byte, error)
	State vfs.FS // the state partition; nil if it could not be mounted
	Log   *slog.Logger
}

// LoadSecrets decides which files are in force: those on the boot partition if
// all of them are good, else the last good ones. It gives what each file
// holds, by plain names, and what went wrong, in words that name files and
// tell nothing of what is in them.
func LoadSecrets(c SecretsConfig) (files map[string][]byte, problems []string) {
	complain := func(err error) {
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	files, err := within(c.Boot)
	if err != nil {
		// These words are promised to whoever watches the console.
		complain(fmt.Errorf("site secrets rejected: %v", err))
		files = nil
	}
	source := "boot partition"
	if len(files) > 0 {
		complain(c.keep(files))
	} else {
		source = "last good"
		files, err = c.last()
		complain(err)
	}
	if len(files) > 0 {
		c.Log.Info("site secrets: "+source, "files", len(files))
	}
	return files, problems
}

// ReadSecrets reads layout.ESPSecrets of the boot partition. A set with a file
// that cannot be taken is refused as a whole. Hidden files are left out; nil
// is no folder, or none with files: who empties it has not asked for the
// box's listeners to be closed.
func ReadSecrets(boot fs.FS) (map[string][]byte, error) {
	names, err := list(boot, layout.ESPSecrets)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte, len(names))
	for _, name := range names {
		// Not %w: a file that is listed and cannot be found is no absence.
		if files[name], err = readSecret(boot, path.Join(layout.ESPSecrets, name)); err != nil {
			return nil, fmt.Errorf("%s/%s: %v", layout.ESPSecrets, name, err)
		}
	}
	return files, nil
}

// list names the files of a folder that anybody may have filled with anything.
func list(fsys fs.FS, dir string) ([]string, error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, fmt.Errorf("%s: want a folder", dir)
	}
	var names []string
	for seen := 0; ; {
		entries, err := d.ReadDir(maxEntries + 1)
		if seen += len(entries); seen > maxEntries {
			return nil, fmt.Errorf("%s: more than %d entries, the most is %d files", dir, maxEntries, MaxSecrets)
		}
		for _, e := range entries {
			switch {
			case strings.HasPrefix(e.Name(), "."):
				continue
			case !e.Type().IsRegular():
				return nil, fmt.Errorf("%s: %.*q is not an ordinary file", dir, maxSecretName, e.Name())
			}
			names = append(names, e.Name())
		}
		if errors.Is(err, io.EOF) || err == nil && len(entries) == 0 {
			return names, goodNames(dir, names)
		}
		if err != nil {
			return nil, fmt.Errorf("read folder %s: %v", dir, err)
		}
	}
}

// goodNames judges the names of a set that is from where.
func goodNames(where string, names []string) error {
	if len(names) > MaxSecrets {
		return fmt.Errorf("%s: %d files, the most is %d", where, len(names), MaxSecrets)
	}
	for _, name := range names {
		if !site.SecretName(name) {
			return fmt.Errorf("%s: file name %.*q: want letters, digits, '.', '_' and '-', at most %d", where, maxSecretName, name, maxSecretName)
		}
	}
	return nil
}

func readSecret(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSecretSize+1))
	if err != nil {
		return nil, err
	}
	return data, goodSize(len(data))
}

func goodSize(n int) error {
	switch {
	case n == 0:
		// A stick or card that was pulled out too early has such files.
		return errors.New("is empty: copy it again")
	case n > MaxSecretSize:
		return fmt.Errorf("has more than %d bytes", MaxSecretSize)
	}
	return nil
}

// keep makes files the last good ones. An unchanged set is not written again.
func (c SecretsConfig) keep(files map[string][]byte) error {
	if c.State == nil {
		return nil
	}
	text, err := json.Marshal(kept{keptVersion, files})
	if err != nil {
		return fmt.Errorf("keep the site secrets: %v", err)
	}
	if old, err := read(c.State, keptSecrets, maxKept); err == nil && string(old) == string(text) {
		return nil
	}
	if err := vfs.WriteWhole(c.State, keptSecrets, text); err != nil {
		return fmt.Errorf("keep the site secrets: %v", err)
	}
	return nil
}

// last gives the last good files; nil if there are none.
func (c SecretsConfig) last() (map[string][]byte, error) {
	text, err := read(c.State, keptSecrets, maxKept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last good site secrets: %v", err)
	}
	files, err := parseKept(text)
	if err != nil {
		return nil, fmt.Errorf("the last good site secrets are refused: %v", err)
	}
	return files, nil
}

// parseKept reads what keep has written. The decoder's own errors are not
// passed on: they quote what they stumble over.
func parseKept(text []byte) (map[string][]byte, error) {
	var k kept
	if json.Unmarshal(text, &k) != nil || k.Version == 0 {
		return nil, errors.New("not readable")
	}
	if k.Version != keptVersion {
		return nil, fmt.Errorf("version %d, this release knows %d", k.Version, keptVersion)
	}
	if err := goodNames(keptSecrets, slices.Sorted(maps.Keys(k.Files))); err != nil {
		return nil, err
	}
	for name, data := range k.Files {
		if err := goodSize(len(data)); err != nil {
			return nil, fmt.Errorf("%s: %v", name, err)
		}
	}
	return k.Files, nil
}
