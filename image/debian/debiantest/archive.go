// Package debiantest serves a small Debian archive, signed by a key of its own,
// over HTTP on the loopback address, for tests of what reads one.
package debiantest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"

	"github.com/waysideos/wayside/image/debian"
)

// Package is one package to be offered.
type Package struct {
	Suite    string // "trixie", "trixie-updates", "trixie-security"
	Firmware bool   // of the component non-free-firmware, not main
	Arch     string // index it is listed in: "amd64"
	Name     string
	Version  string
	Depends  string
	Deb      []byte // see Deb
}

// Archive is the archive's content and its server.
type Archive struct {
	Keys   debian.Keys   // that it is believed by
	Mirror debian.Mirror // where it is
	// Date and ValidUntil of the InRelease files; Now lies between. Change them
	// before Publish.
	Date, Now, ValidUntil time.Time

	signer   *openpgp.Entity
	packages []Package

	mu       sync.Mutex
	files    map[string][]byte
	requests []string
	hook     func(w http.ResponseWriter, r *http.Request, content []byte) bool
}

// New starts an empty archive; it ends with the test.
func New(t testing.TB) *Archive {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := &Archive{Date: now.Add(-time.Hour), Now: now, ValidUntil: now.Add(24 * time.Hour), files: map[string][]byte{}}
	a.signer = NewKey(t, a.Date.Add(-time.Hour))
	a.Keys = debian.Keys{a.signer}
	srv := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(srv.Close)
	a.Mirror = debian.Mirror{Main: srv.URL + "/debian", Security: srv.URL + "/debian-security"}
	return a
}

// NewKey makes a signing key.
func NewKey(t testing.TB, created time.Time) *openpgp.Entity {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return created }}
	key, err := openpgp.NewEntity("Test archive", "", "archive@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Config reads this archive at its Now.
func (a *Archive) Config() debian.Config {
	return debian.Config{Mirror: a.Mirror, Keys: a.Keys, Now: a.Now}
}

// Open returns a reader of the archive.
func (a *Archive) Open(t testing.TB) *debian.Archive {
	t.Helper()
	r, err := debian.NewArchive(a.Config())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Add offers packages from the next Publish on.
func (a *Archive) Add(packages ...Package) { a.packages = append(a.packages, packages...) }

// Clear takes all packages out of the indexes of the next Publish; the pool
// keeps them.
func (a *Archive) Clear() { a.packages = nil }

// Publish writes and signs the indexes of all three suites for amd64 and arm64.
func (a *Archive) Publish(t testing.TB) {
	t.Helper()
	for _, suite := range []string{"trixie", "trixie-updates", "trixie-security"} {
		base, prefix := "/debian", ""
		if suite == "trixie-security" {
			base, prefix = "/debian-security", "updates/"
		}
		var sums []string
		put := func(component, arch string, index []byte) {
			packed := pack(t, index)
			dir := component + "/binary-" + arch + "/"
			a.Put(base+"/dists/"+suite+"/"+dir+"Packages.xz", packed)
			a.Put(base+"/dists/"+suite+"/"+dir+"by-hash/SHA256/"+sum(packed), packed)
			sums = append(sums, fmt.Sprintf(" %s %d %sPackages.xz", sum(packed), len(packed), dir))
		}
		for _, arch := range []string{"amd64", "arm64"} {
			put("main", arch, a.index(suite, arch, base, prefix, false))
			if index := a.index(suite, arch, base, prefix, true); len(index) > 0 {
				put("non-free-firmware", arch, index)
			}
		}
		a.Put(base+"/dists/"+suite+"/InRelease", a.Sign(t, a.release(suite, sums)))
	}
}

func (a *Archive) release(suite string, sums []string) string {
	return fmt.Sprintf("Origin: Test\nCodename: %s\nDate: %s\nValid-Until: %s\nAcquire-By-Hash: yes\nComponents: main\nSHA256:\n%s\n",
		suite, a.Date.Format(time.RFC1123), a.ValidUntil.Format(time.RFC1123), strings.Join(sums, "\n"))
}

// Sign clear-signs a text with the archive's key.
func (a *Archive) Sign(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	config := &packet.Config{Time: func() time.Time { return a.Date }}
	w, err := clearsign.Encode(&buf, a.signer.PrivateKey, config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (a *Archive) index(suite, arch, base, prefix string, firmware bool) []byte {
	var buf bytes.Buffer
	for _, p := range a.packages {
		if p.Suite != suite || p.Arch != arch || p.Firmware != firmware {
			continue
		}
		name := fmt.Sprintf("pool/%smain/%s_%s_%s.deb", prefix, p.Name, p.Version, arch)
		a.Put(base+"/"+name, p.Deb)
		fmt.Fprintf(&buf, "Package: %s\nVersion: %s\nArchitecture: %s\n", p.Name, p.Version, arch)
		if p.Depends != "" {
			fmt.Fprintf(&buf, "Depends: %s\n", p.Depends)
		}
		fmt.Fprintf(&buf, "Description: a package\n of a test\nFilename: %s\nSize: %d\nSHA256: %s\n\n", name, len(p.Deb), sum(p.Deb))
	}
	return buf.Bytes()
}

// Put sets the file at a URL path; nil removes it.
func (a *Archive) Put(path string, content []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[path] = content
	if content == nil {
		delete(a.files, path)
	}
}

// Get returns the file at the one URL path that ends so.
func (a *Archive) Get(t testing.TB, suffix string) (path string, content []byte) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(a.files)) {
		if strings.HasSuffix(path, suffix) {
			return path, a.files[path]
		}
	}
	t.Fatalf("archive has no file %q", suffix)
	return "", nil
}

// Hook lets a test answer requests itself: it returns true when it has.
func (a *Archive) Hook(hook func(w http.ResponseWriter, r *http.Request, content []byte) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook = hook
}

// Requests returns "path" or "path range" of every request since the last call.
func (a *Archive) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.requests
	a.requests = nil
	return all
}

func (a *Archive) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	content, ok := a.files[r.URL.Path]
	a.requests = append(a.requests, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
	hook := a.hook
	a.mu.Unlock()
	if hook != nil && hook(w, r, content) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func pack(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 64 << 10}.NewWriter(&buf) // the default clears 50 MB each time
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
