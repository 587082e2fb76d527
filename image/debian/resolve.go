package debian

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"pault.ag/go/debian/version"
)

// kernelPrefix begins the names of kernels and of the meta-packages that stand
// for the newest of them.
const kernelPrefix = "linux-image-"

// Resolve locks the newest version of each requested package over trixie,
// trixie-updates and trixie-security for one Debian architecture. A kernel's
// meta-package becomes the kernel of equal version it depends on.
func (a *Archive) Resolve(ctx context.Context, requests []string, arch string) (Lock, error) {
	kernel := slices.ContainsFunc(requests, func(r string) bool { return strings.HasPrefix(r, kernelPrefix) })
	entries, err := a.Entries(ctx, arch, func(name string) bool {
		return slices.Contains(requests, name) || kernel && strings.HasPrefix(name, kernelPrefix)
	})
	if err != nil {
		return Lock{}, err
	}
	locked := map[string]LockedPackage{}
	for _, request := range requests {
		e, err := choose(entries, request)
		if err != nil {
			return Lock{}, fmt.Errorf("resolve package %s for %s: %w", request, arch, err)
		}
		locked[request] = LockedPackage{Arch: arch, Request: request, Name: e.Package, Version: e.Version,
			Archive: e.Archive, Filename: e.Filename, Size: e.Size, SHA256: e.SHA256}
	}
	return Lock{Format: LockFormat, Suite: Suite, Date: a.date(), Packages: map[string]map[string]LockedPackage{arch: locked}}, nil
}

// date is the newest of the InRelease files read so far.
func (a *Archive) date() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var newest time.Time
	for _, r := range a.releases {
		if r.date.After(newest) {
			newest = r.date
		}
	}
	return newest.UTC()
}

func choose(entries []Entry, request string) (Entry, error) {
	e, err := newest(entries, request)
	if err != nil {
		return Entry{}, err
	}
	kernel, ok := kernelOf(e)
	if !ok {
		return e, nil
	}
	for _, candidate := range entries {
		if candidate.Package == kernel && candidate.Version == e.Version {
			return candidate, nil
		}
	}
	return Entry{}, fmt.Errorf("it depends on %s %s, which no index holds: the mirror is being updated, try again later", kernel, e.Version)
}

// newest returns the entry with the highest version (Debian Policy 5.6.12); of
// equal ones the first, as suites are read.
func newest(entries []Entry, name string) (Entry, error) {
	var top Entry
	var topVersion version.Version
	for _, e := range entries {
		if e.Package != name {
			continue
		}
		v, err := version.Parse(e.Version)
		if err != nil {
			return Entry{}, fmt.Errorf("version %q: %v", e.Version, err)
		}
		if top.Package == "" || version.Compare(v, topVersion) > 0 {
			top, topVersion = e, v
		}
	}
	if top.Package == "" {
		return Entry{}, fmt.Errorf("no index of %s, its updates or its security archive holds it", Suite)
	}
	return top, nil
}

// relation is "name (= version)" of a Depends field (Debian Policy 7.1), with
// an architecture qualifier or without.
var relation = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)?\s*\(=\s*([^\s)]+)\s*\)$`)

// kernelOf returns the kernel that a kernel meta-package stands for: the
// dependency with the same prefix and exactly the same version. A real kernel
// has none.
func kernelOf(e Entry) (string, bool) {
	if !strings.HasPrefix(e.Package, kernelPrefix) {
		return "", false
	}
	for dep := range strings.SplitSeq(e.Depends, ",") {
		m := relation.FindStringSubmatch(strings.TrimSpace(dep))
		if m != nil && strings.HasPrefix(m[1], kernelPrefix) && m[2] == e.Version {
			return m[1], true
		}
	}
	return "", false
}

// Find checks that the archive still offers a locked package with the locked
// content, and returns what it says of it. The error is a *GoneError or a
// *MismatchError when it does not.
func Find(entries []Entry, p LockedPackage) (Entry, error) {
	var other *Entry
	for i, e := range entries {
		if e.Package != p.Name || e.Version != p.Version {
			continue
		}
		if e.SHA256 == p.SHA256 && e.Size == p.Size {
			return e, nil
		}
		other = &entries[i]
	}
	if other != nil {
		return Entry{}, &MismatchError{Package: p.Name, Version: p.Version, Arch: p.Arch,
			Locked: p.SHA256, Archive: other.SHA256}
	}
	return Entry{}, &GoneError{Package: p.Name, Version: p.Version, Arch: p.Arch, Where: "no index names it"}
}
