package trust

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/waysideos/wayside/image/release"
)

// File is one target: where it lies in a source, and what it must be.
type File struct {
	Name   string // in the source, with its hash
	Length int64
	SHA256 [32]byte
}

// Catalog is what a repository offers, believed.
type Catalog struct {
	Releases []release.Target // newest counter first
	Problems []string         // releases that cannot be read, in words
	Expires  time.Time        // earliest expiry of the metadata

	targets map[string]*metadata.TargetFiles
	hashed  bool
}

// targetsDir is where the target files lie in a source.
const targetsDir = "targets"

func newCatalog(set *trustedmetadata.TrustedMetadata) (*Catalog, error) {
	targets := set.Targets[metadata.TARGETS]
	if targets == nil || set.Timestamp == nil || set.Snapshot == nil {
		return nil, errors.New("update metadata is not complete")
	}
	c := &Catalog{targets: targets.Signed.Targets, hashed: set.Root.Signed.ConsistentSnapshot}
	c.Expires = set.Root.Signed.Expires
	for _, t := range []time.Time{set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires, targets.Signed.Expires} {
		if t.Before(c.Expires) {
			c.Expires = t
		}
	}
	for name, t := range c.targets {
		if path.Base(name) != release.TargetUKI || t.Custom == nil {
			continue
		}
		r, err := release.DecodeTarget(*t.Custom)
		if err == nil && r.Path(release.TargetUKI) != name {
			err = errors.New("it calls itself " + r.Path(release.TargetUKI))
		}
		if err != nil {
			c.Problems = append(c.Problems, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		c.Releases = append(c.Releases, r)
	}
	slices.SortFunc(c.Releases, func(a, b release.Target) int {
		if a.Counter != b.Counter {
			if a.Counter > b.Counter {
				return -1
			}
			return 1
		}
		return strings.Compare(b.Version, a.Version)
	})
	slices.Sort(c.Problems)
	return c, nil
}

// File finds a file of a release; ok is false if it was not published.
func (c *Catalog) File(r release.Target, file string) (f File, ok bool) {
	name := r.Path(file)
	t := c.targets[name]
	if t == nil {
		return File{}, false
	}
	sum, ok := t.Hashes["sha256"]
	if !ok || len(sum) != 32 || t.Length < 0 {
		return File{}, false
	}
	f = File{Name: path.Join(targetsDir, name), Length: t.Length, SHA256: [32]byte(bytes.Clone(sum))}
	if c.hashed {
		f.Name = path.Join(targetsDir, path.Dir(name), hex.EncodeToString(sum)+"."+path.Base(name))
	}
	return f, true
}
