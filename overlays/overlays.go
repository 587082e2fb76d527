// Package overlays holds files laid over the root file system. An overlay is
// a folder: rootfs/ with the files, and overlay.yaml for what neither git nor
// embedding keeps: modes, owners, links and empty directories.
package overlays

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed all:base
var files embed.FS

// Entry is one path of an overlay, absolute in the root file system. A
// directory has fs.ModeDir and a symbolic link fs.ModeSymlink in Mode.
type Entry struct {
	Path     string
	Mode     fs.FileMode
	UID, GID int
	Link     string // target of a symbolic link
	Data     []byte // content of a regular file
}

// special is one line of overlay.yaml.
type special struct {
	Path string `yaml:"path"`
	Dir  bool   `yaml:"dir,omitempty"`
	Link string `yaml:"link,omitempty"`
	Mode uint32 `yaml:"mode,omitempty"`
	UID  int    `yaml:"uid,omitempty"`
	GID  int    `yaml:"gid,omitempty"`
}

// Load returns the entries of the named overlay, sorted by path; parents
// come before what is in them.
func Load(name string) ([]Entry, error) {
	sub, err := fs.Sub(files, name)
	if err != nil {
		return nil, err
	}
	entries, err := Read(sub)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", name, err)
	}
	return entries, nil
}

// Read is Load for a folder that is not one of ours.
func Read(fsys fs.FS) ([]Entry, error) {
	byPath := map[string]Entry{}
	if err := addFiles(fsys, byPath); err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(fsys, "overlay.yaml")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Entries []special `yaml:"entries"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&doc); err != nil {
		return nil, errors.New("overlay.yaml: " + yaml.FormatError(err, false, true))
	}
	for _, s := range doc.Entries {
		if err := s.apply(byPath); err != nil {
			return nil, fmt.Errorf("overlay.yaml: %s: %w", s.Path, err)
		}
	}
	entries := make([]Entry, 0, len(byPath))
	for _, e := range byPath {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return entries, nil
}

func addFiles(fsys fs.FS, byPath map[string]Entry) error {
	return fs.WalkDir(fsys, "rootfs", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "rootfs" {
			return err
		}
		e := Entry{Path: strings.TrimPrefix(name, "rootfs"), Mode: 0o644}
		if d.IsDir() {
			e.Mode = fs.ModeDir | 0o755
		} else if e.Data, err = fs.ReadFile(fsys, name); err != nil {
			return err
		}
		byPath[e.Path] = e
		return nil
	})
}

// apply adds a directory or link, or changes mode and owner of a file.
func (s special) apply(byPath map[string]Entry) error {
	if !path.IsAbs(s.Path) || path.Clean(s.Path) != s.Path {
		return errors.New("not a clean absolute path")
	}
	e, exists := byPath[s.Path]
	switch {
	case s.Dir && s.Link != "":
		return errors.New("both dir and link")
	case s.Dir:
		e.Mode = fs.ModeDir | 0o755
	case s.Link != "":
		e.Mode, e.Link = fs.ModeSymlink|0o777, s.Link
	case !exists:
		return errors.New("no such file in rootfs, and neither dir nor link")
	}
	e.Path, e.UID, e.GID = s.Path, s.UID, s.GID
	if s.Mode != 0 {
		e.Mode = e.Mode.Type() | fs.FileMode(s.Mode&0o777)
		if s.Mode&0o1000 != 0 {
			e.Mode |= fs.ModeSticky
		}
	}
	byPath[s.Path] = e
	return nil
}
