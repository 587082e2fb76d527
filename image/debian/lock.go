package debian

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"pault.ag/go/debian/version"
)

// LockFormat is the version of the lock file's schema.
const LockFormat = 1

// Lock is the lock file: what was tested, and nothing else is built.
type Lock struct {
	Format int       `json:"format"`
	Suite  string    `json:"suite"`
	Date   time.Time `json:"date"` // of the newest InRelease it was resolved from, UTC
	// Packages by Debian architecture ("amd64") and requested name
	// ("linux-image-amd64").
	Packages map[string]map[string]LockedPackage `json:"packages"`
}

// LockedPackage is one exact package. The name differs from the requested one
// where that is a meta-package: linux-image-amd64 stands for the kernel it
// depends on.
type LockedPackage struct {
	Arch    string `json:"-"` // key of Lock.Packages
	Request string `json:"-"` // key below it

	Name     string `json:"name"`
	Version  string `json:"version"`
	Archive  string `json:"archive"`  // Main or Security
	Filename string `json:"filename"` // below the archive's URL
	Size     int64  `json:"size"`     // bytes
	SHA256   string `json:"sha256"`   // hex, lower case
}

// ParseLock reads a lock file, strictly: an unknown field or an impossible
// value is an error that names the package.
func ParseLock(data []byte) (Lock, error) {
	var l Lock
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return Lock{}, fmt.Errorf("read package lock: %v: renew it with `%s`", err, LockCommand)
	}
	if _, err := d.Token(); err != io.EOF {
		return Lock{}, errors.New("read package lock: something follows the JSON object")
	}
	for arch, packages := range l.Packages {
		for request, p := range packages {
			p.Arch, p.Request = arch, request
			packages[request] = p
		}
	}
	if err := l.validate(); err != nil {
		return Lock{}, fmt.Errorf("read package lock: %w", err)
	}
	return l, nil
}

// Encode returns the lock file's bytes: sorted, indented, the same for the same
// content.
func (l Lock) Encode() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("write package lock: %w", err)
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return buf.Bytes(), err
}

// Package returns what the lock holds for a requested name.
func (l Lock) Package(arch, request string) (LockedPackage, error) {
	p, ok := l.Packages[arch][request]
	if !ok {
		return LockedPackage{}, fmt.Errorf("package %s for %s is not in the lock: add it with `%s`", request, arch, LockCommand)
	}
	return p, nil
}

// All returns every package, sorted by architecture and requested name.
func (l Lock) All() []LockedPackage {
	var all []LockedPackage
	for _, arch := range slices.Sorted(maps.Keys(l.Packages)) {
		for _, request := range slices.Sorted(maps.Keys(l.Packages[arch])) {
			all = append(all, l.Packages[arch][request])
		}
	}
	return all
}

// Merge returns the packages of both; where both have one, other's. The newer
// date is kept.
func (l Lock) Merge(other Lock) Lock {
	merged := Lock{Format: LockFormat, Suite: other.Suite, Date: other.Date, Packages: map[string]map[string]LockedPackage{}}
	if l.Date.After(other.Date) {
		merged.Date = l.Date
	}
	for _, p := range append(l.All(), other.All()...) {
		if merged.Packages[p.Arch] == nil {
			merged.Packages[p.Arch] = map[string]LockedPackage{}
		}
		merged.Packages[p.Arch][p.Request] = p
	}
	return merged
}

// Change is one difference between two locks; Old or New is nil for a package
// that was added or dropped.
type Change struct{ Old, New *LockedPackage }

// Mismatch returns a *MismatchError for a change of content under one name and
// version, which no archive makes.
func (c Change) Mismatch() error {
	if c.Old == nil || c.New == nil || c.Old.Name != c.New.Name || c.Old.Version != c.New.Version || c.Old.SHA256 == c.New.SHA256 {
		return nil
	}
	return &MismatchError{Package: c.New.Name, Version: c.New.Version, Arch: c.New.Arch, Locked: c.Old.SHA256, Archive: c.New.SHA256}
}

// Changes lists what differs from l in newer, sorted like All.
func (l Lock) Changes(newer Lock) []Change {
	var changes []Change
	for _, p := range l.Merge(newer).All() {
		before, had := l.Packages[p.Arch][p.Request]
		after, has := newer.Packages[p.Arch][p.Request]
		switch {
		case had && has && before != after:
			changes = append(changes, Change{Old: &before, New: &after})
		case had && !has:
			changes = append(changes, Change{Old: &before})
		case has && !had:
			changes = append(changes, Change{New: &after})
		}
	}
	return changes
}

var (
	// Debian Policy 5.6.7: package names, and the words architectures are.
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	archName    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
)

func (l Lock) validate() error {
	if l.Format != LockFormat {
		return fmt.Errorf("format %d is not %d, which this tool reads: use the tool of the same source tree", l.Format, LockFormat)
	}
	if l.Suite != Suite {
		return fmt.Errorf("suite %q is not %q: renew it with `%s`", l.Suite, Suite, LockCommand)
	}
	if l.Date.IsZero() {
		return errors.New("date is missing")
	}
	for arch, packages := range l.Packages {
		if !archName.MatchString(arch) {
			return fmt.Errorf("architecture %q is no architecture", arch)
		}
		for request, p := range packages {
			if err := p.validate(arch, request); err != nil {
				return fmt.Errorf("package %q for %s: %w", request, arch, err)
			}
		}
	}
	return nil
}

func (p LockedPackage) validate(arch, request string) error {
	if p.Arch != arch || p.Request != request {
		return fmt.Errorf("stands for %q of %q", p.Request, p.Arch)
	}
	if !packageName.MatchString(request) {
		return errors.New("the requested name is no package name")
	}
	if p.Archive != Main && p.Archive != Security {
		return fmt.Errorf("archive %q is neither %q nor %q", p.Archive, Main, Security)
	}
	return checkFile(p.Name, p.Version, p.Filename, p.Size, p.SHA256)
}

// checkFile judges what index and lock alike say of a package. Name and file
// name become parts of paths and URLs.
func checkFile(name, ver, filename string, size int64, sha256 string) error {
	switch _, err := version.Parse(ver); {
	case !packageName.MatchString(name):
		return fmt.Errorf("name %q is no package name", name)
	case err != nil:
		return fmt.Errorf("version %q is no Debian version: %v", ver, err)
	case !fs.ValidPath(filename) || !strings.HasPrefix(filename, "pool/") || strings.ContainsAny(filename, "\\ \t\r\n\x00"):
		return fmt.Errorf("filename %q is no path in pool/", filename)
	case size <= 0 || size > maxDeb:
		return fmt.Errorf("size %d is not between 1 byte and %d", size, int64(maxDeb))
	case !isSHA256(sha256):
		return fmt.Errorf("sha256 %q is no SHA-256 in lower-case hex", sha256)
	}
	return nil
}
