// Package attest writes what an image is made of, as SPDX, and how it was
// made, as a signed in-toto statement with SLSA provenance.
package attest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// Component is one part that an image is made of.
type Component struct {
	Name    string
	Version string
	PURL    string // package URL, its identity among vulnerability databases
	// SHA256, hex, is of the .deb of a Debian package; of a Go module it is
	// what go.sum calls h1, a hash of hashes of its files.
	SHA256 string
	// Hash names that hash as in-toto does: "sha256" or "dirHash".
	Hash string
}

// Debian is a package of Debian's archive. sum is its .deb's SHA-256 in hex.
func Debian(name, version, arch, sum string) Component {
	return Component{
		Name: name, Version: version, SHA256: sum, Hash: "sha256",
		PURL: "pkg:deb/debian/" + name + "@" + purlVersion(version) + "?arch=" + url.QueryEscape(arch),
	}
}

// GoModule is a module linked into a program. sum is as in go.sum, or empty.
func GoModule(path, version, sum string) (Component, error) {
	c := Component{Name: path, Version: version, PURL: "pkg:golang/" + strings.ToLower(path) + "@" + purlVersion(version)}
	if sum == "" {
		return c, nil
	}
	raw, ok := strings.CutPrefix(sum, "h1:")
	hash, err := base64.StdEncoding.DecodeString(raw)
	if !ok || err != nil || len(hash) != 32 {
		return c, fmt.Errorf("module %s: %q is no hash of go.sum", path, sum)
	}
	c.SHA256, c.Hash = hex.EncodeToString(hash), "dirHash"
	return c, nil
}

// GoToolchain is the compiler, and with it Go's standard library.
func GoToolchain(version string) Component {
	version = strings.TrimPrefix(version, "go")
	return Component{Name: "stdlib", Version: version, PURL: "pkg:golang/stdlib@" + purlVersion(version)}
}

// purlVersion escapes what a package URL gives another meaning.
func purlVersion(v string) string { return strings.ReplaceAll(url.PathEscape(v), "+", "%2B") }
