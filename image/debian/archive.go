package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ulikunitz/xz"
)

// Suite is the Debian release everything comes from, whatever the host runs.
const Suite = "trixie"

// suites are searched for the newest version of a package.
var suites = []struct{ name, archive string }{
	{Suite, Main},
	{Suite + "-updates", Main},
	{Suite + "-security", Security},
}

const (
	maxRelease = 4 << 20 // bytes of an InRelease file
	maxIndex   = 1 << 30 // bytes of a Packages file, unpacked
	maxDeb     = 4 << 30 // bytes of a package
)

// Archive reads a Debian mirror. What it returns is verified from the archive's
// signature down; InRelease files are fetched once in its life.
type Archive struct {
	mirror Mirror
	keys   Keys
	now    time.Time
	log    *slog.Logger
	fetcher

	mu       sync.Mutex
	releases map[string]*release
}

// Config says where an Archive reads and what it believes.
type Config struct {
	Mirror Mirror
	Keys   Keys         // nil: ArchiveKeys()
	Now    time.Time    // decides what is expired; must be set
	Client *http.Client // nil: NewClient()
	Log    *slog.Logger // nil: silent
}

// NewArchive checks the configuration; it does not touch the network.
func NewArchive(c Config) (*Archive, error) {
	if c.Now.IsZero() {
		return nil, errors.New("open Debian archive: no time given to check expiry against")
	}
	mirror, err := c.Mirror.checked()
	if err != nil {
		return nil, err
	}
	if c.Keys == nil {
		if c.Keys, err = ArchiveKeys(); err != nil {
			return nil, err
		}
	}
	if c.Client == nil {
		c.Client = NewClient()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Archive{mirror: mirror, keys: c.Keys, now: c.Now, log: c.Log,
		fetcher:  fetcher{client: c.Client, wait: backoff},
		releases: map[string]*release{}}, nil
}

// Entry is what Wayside reads of one package in an index.
type Entry struct {
	Package, Version, Depends string
	Filename                  string // below the archive's URL
	Size                      int64  // bytes
	SHA256                    string // hex
	Archive                   string // Main or Security
}

// Entries returns every version that the suites offer of the packages that keep
// selects, for one Debian architecture (packages for all architectures are
// among them). The three indexes of trixie are 10 MB to fetch and 57 MB to read.
func (a *Archive) Entries(ctx context.Context, arch string, keep func(name string) bool) ([]Entry, error) {
	var all []Entry
	for _, s := range suites {
		found, err := a.suiteEntries(ctx, s.name, s.archive, arch, keep)
		if err != nil {
			return nil, fmt.Errorf("read index of %s for %s: %w", s.name, arch, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func (a *Archive) suiteEntries(ctx context.Context, suite, archive, arch string, keep func(string) bool) ([]Entry, error) {
	r, err := a.release(ctx, suite, archive)
	if err != nil {
		return nil, err
	}
	var found []Entry
	for _, component := range components {
		index := component + "/binary-" + arch + "/Packages.xz"
		if _, named := r.files[index]; !named && component != components[0] {
			continue // a suite without such packages
		}
		packed, err := a.index(ctx, r, suite, archive, index)
		if err != nil {
			return nil, err
		}
		if found, err = addEntries(found, packed, index, archive, keep); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// components of the archive that packages are taken from: what is free, and
// what devices load (Debian Policy 2.2).
var components = []string{"main", "non-free-firmware"}

func addEntries(found []Entry, packed []byte, index, archive string, keep func(string) bool) ([]Entry, error) {
	body, err := xz.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %v", index, err)
	}
	err = readPackages(io.LimitReader(body, maxIndex), keep, func(e Entry) error {
		e.Archive = archive
		found = append(found, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", index, err)
	}
	return found, nil
}

// release returns the verified InRelease of a suite.
func (a *Archive) release(ctx context.Context, suite, archive string) (*release, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.releases[suite]; r != nil {
		return r, nil
	}
	link := a.mirror.base(archive) + "/dists/" + suite + "/InRelease"
	data, err := a.get(ctx, link, maxRelease)
	if err != nil {
		return nil, err
	}
	r, err := openRelease(data, a.keys, a.now)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", redacted(link), err)
	}
	// The keys sign several releases: a mirror must not pass off another one.
	if r.codename != suite {
		return nil, fmt.Errorf("verify %s: the file is signed for %q, not for %q", redacted(link), r.codename, suite)
	}
	if !r.validUntil.IsZero() && a.now.After(r.validUntil) {
		expired := &ExpiredError{Suite: suite, Until: r.validUntil, Now: a.now}
		if !a.mirror.IgnoreExpiry {
			return nil, expired
		}
		a.log.Warn("the archive index is expired; accepted because the host's apt is told not to check Valid-Until",
			"suite", suite, "valid_until", r.validUntil)
	}
	a.releases[suite] = r
	return r, nil
}

// index fetches a file that an InRelease names, by its hash where the archive
// offers that: a mirror in the middle of an update then has no wrong moment.
func (a *Archive) index(ctx context.Context, r *release, suite, archive, name string) ([]byte, error) {
	signed, ok := r.files[name]
	if !ok {
		return nil, fmt.Errorf("InRelease names no %s", name)
	}
	dir := a.mirror.base(archive) + "/dists/" + suite + "/"
	links := []string{dir + name}
	if r.byHash {
		byHash := dir + name[:len(name)-len("Packages.xz")] + "by-hash/SHA256/" + signed.sha256
		links = []string{byHash, dir + name}
	}
	var data []byte
	var err error
	for _, link := range links {
		if data, err = a.get(ctx, link, signed.size); !errors.Is(err, errNotFound) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if got := hexSHA256(data); got != signed.sha256 {
		return nil, &ContentError{What: name + " of " + suite, Want: "sha256 " + signed.sha256, Got: got}
	}
	return data, nil
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// readPackages yields the entries that keep selects of a Packages index.
func readPackages(r io.Reader, keep func(name string) bool, yield func(Entry) error) error {
	s := newStanzas(r, "Package", "Version", "Depends", "Filename", "Size", "SHA256")
	for {
		if err := s.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		name := s.text(0)
		if !keep(name) {
			continue
		}
		e := Entry{Package: name, Version: s.text(1), Depends: s.text(2), Filename: s.text(3), SHA256: s.text(5)}
		size, err := strconv.ParseInt(s.text(4), 10, 64)
		if err != nil {
			return s.errorf("package %q has no size", name)
		}
		e.Size = size
		if err := checkFile(e.Package, e.Version, e.Filename, e.Size, e.SHA256); err != nil {
			return s.errorf("package %q: %v", name, err)
		}
		if err := yield(e); err != nil {
			return err
		}
	}
}
