package debian

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
)

// The two archives a package may come from, as the lock names them.
const (
	Main     = "main"
	Security = "security"
)

// Mirror says where the archives are fetched from: http or https URLs of the
// folders that hold dists/ and pool/, without a slash at the end.
type Mirror struct {
	Main     string
	Security string
	// IgnoreExpiry accepts an archive past its Valid-Until. Only FromAPT sets
	// it, on hosts whose administrator told apt the same (a frozen mirror).
	IgnoreExpiry bool
}

// base returns the URL of the archive named Main or Security.
func (m Mirror) base(archive string) string {
	if archive == Security {
		return m.Security
	}
	return m.Main
}

// FindMirror takes the URLs given by the user, and for what is empty what the
// host's apt configuration says; root is the host's file system
// (os.DirFS("/")). The security archive is never guessed from the main one.
// The error is a *NoMirrorError when one of them is nowhere to be found.
func FindMirror(main, security string, root fs.FS) (Mirror, error) {
	m := Mirror{Main: main, Security: security}
	if main == "" || security == "" {
		host := readAPT(root)
		if main == "" {
			m.Main = host.Main
		}
		if security == "" {
			m.Security = host.Security
		}
		m.IgnoreExpiry = host.IgnoreExpiry && main == "" && security == ""
	}
	return m.checked()
}

// FromAPT finds the mirror in the host's apt configuration: etc/apt/sources.list
// and sources.list.d/*.list|*.sources below root, and only in entries that are
// Debian's own archive. Ubuntu's and others' entries are passed over.
func FromAPT(root fs.FS) (Mirror, error) { return FindMirror("", "", root) }

func (m Mirror) checked() (Mirror, error) {
	var missing []string
	for _, a := range []struct {
		name, flag string
		url        *string
	}{{Main, "--mirror", &m.Main}, {Security, "--security-mirror", &m.Security}} {
		if *a.url == "" {
			missing = append(missing, a.name)
			continue
		}
		u, err := url.Parse(*a.url)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return Mirror{}, fmt.Errorf("mirror %q of %s is no http or https URL: give %s URL", *a.url, a.name, a.flag)
		}
		*a.url = strings.TrimRight(*a.url, "/")
	}
	if len(missing) > 0 {
		return Mirror{}, &NoMirrorError{Missing: missing}
	}
	return m, nil
}

// debianSuites are the names Debian's releases go by. Derivatives that keep
// Debian's code names are told apart by points, below.
var debianSuites = []string{"buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid",
	"oldoldstable", "oldstable", "stable", "testing", "unstable"}

// traits tell Debian's own archive from a third party's that uses the same
// suite names. A candidate needs minPoints; the most points win, then the
// first in apt's reading order.
var traits = []struct {
	points int
	holds  func(candidate) bool
}{
	{4, func(c candidate) bool { return strings.Contains(c.signedBy, "debian-archive-") }},
	{2, func(c candidate) bool { return path.Base(c.uri) == "debian" || path.Base(c.uri) == "debian-security" }},
	{2, func(c candidate) bool { return slices.ContainsFunc(c.suites, isUpdates) }},
	{2, func(c candidate) bool { return slices.ContainsFunc(c.suites, isSecurity) }},
	{-3, func(c candidate) bool { return c.signedBy != "" && !strings.Contains(c.signedBy, "debian-archive-") }},
}

const minPoints = 2

// candidate is everything the sources say about one URI.
type candidate struct {
	uri, signedBy string
	suites        []string
	ignoreExpiry  bool
}

func (c candidate) points() int {
	sum := 0
	for _, t := range traits {
		if t.holds(c) {
			sum += t.points
		}
	}
	return sum
}

func isUpdates(suite string) bool {
	release, ok := strings.CutSuffix(suite, "-updates")
	return ok && slices.Contains(debianSuites, release)
}

func isSecurity(suite string) bool {
	release, ok := strings.CutSuffix(suite, "-security")
	if !ok {
		release, ok = strings.CutSuffix(suite, "/updates") // until buster
	}
	return ok && slices.Contains(debianSuites, release)
}

func isMain(suite string) bool {
	release := strings.TrimSuffix(strings.TrimSuffix(suite, "-updates"), "-backports")
	return slices.Contains(debianSuites, release)
}

// readAPT returns what it finds; either URL may be empty.
func readAPT(root fs.FS) Mirror {
	sources := aptSources(root)
	main, security := best(sources, isMain), best(sources, isSecurity)
	return Mirror{
		Main:         main.uri,
		Security:     security.uri,
		IgnoreExpiry: ignoresExpiry(root) || main.ignoreExpiry && security.ignoreExpiry,
	}
}

// best returns the candidate with the most points among those with a suite of
// that kind.
func best(sources []aptSource, kind func(string) bool) candidate {
	var all []candidate
	for _, s := range sources {
		suites := slices.DeleteFunc(slices.Clone(s.suites), func(suite string) bool { return !kind(suite) })
		if len(suites) == 0 || !slices.Contains(s.components, "main") {
			continue
		}
		i := slices.IndexFunc(all, func(c candidate) bool { return c.uri == s.uri })
		if i < 0 {
			i = len(all)
			all = append(all, candidate{uri: s.uri})
		}
		c := &all[i]
		c.suites = append(c.suites, suites...)
		c.signedBy += s.signedBy
		c.ignoreExpiry = c.ignoreExpiry || s.ignoreExpiry
	}
	var top candidate
	points := minPoints - 1
	for _, c := range all {
		if p := c.points(); p > points {
			top, points = c, p
		}
	}
	return top
}
