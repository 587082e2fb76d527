package debian

import (
	"errors"
	"fmt"
	"time"
)

// LockCommand renews the lock; error texts name it.
const LockCommand = "wayside lock"

// ErrSignature: an InRelease file carries no valid signature of a known key.
var ErrSignature = errors.New("no valid signature of a Debian archive key")

// errNotFound: the server answered 404 or 410.
var errNotFound = errors.New("not on the server")

// NoMirrorError says that the host's apt configuration names no Debian archive
// and how to name one.
type NoMirrorError struct {
	Missing []string // of "main", "security"
}

func (e *NoMirrorError) Error() string {
	text := "find the Debian mirror: the apt configuration of this host names no Debian archive for "
	for i, kind := range e.Missing {
		if i > 0 {
			text += " and none for "
		}
		text += kind
	}
	text += "; give"
	for i, kind := range e.Missing {
		if i > 0 {
			text += ", and"
		}
		text += " " + mirrorHelp[kind]
	}
	return text
}

var mirrorHelp = map[string]string{
	Main:     "--mirror URL or WAYSIDE_MIRROR=URL (a folder that ends in /debian and holds dists/" + Suite + ")",
	Security: "--security-mirror URL or WAYSIDE_SECURITY_MIRROR=URL (a folder that ends in /debian-security and holds dists/" + Suite + "-security)",
}

// GoneError says that a locked version is not to be had any more.
type GoneError struct {
	Package, Version, Arch string
	Where                  string // what was asked, and its answer
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("package %s %s (%s) has left the Debian archive (%s): renew the lock with `%s`, then test again",
		e.Package, e.Version, e.Arch, e.Where, LockCommand)
}

// MismatchError says that archive and lock name different content for the same
// version. Debian never does that: one of the two has been tampered with.
type MismatchError struct {
	Package, Version, Arch string
	Locked, Archive        string // sha256, hex
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("package %s %s (%s): SHA256 MISMATCH BETWEEN LOCK AND ARCHIVE: the lock says %s, the signed archive says %s; "+
		"Debian never changes a published version, so do not build: find out who changed the lock, or which archive this is",
		e.Package, e.Version, e.Arch, e.Locked, e.Archive)
}

// ExpiredError says that an InRelease file is past its Valid-Until.
type ExpiredError struct {
	Suite string
	Until time.Time
	Now   time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("archive index of %s was valid until %s and it is %s: the mirror is stale or replays old files; use another with --mirror and --security-mirror, or set the clock",
		e.Suite, e.Until.Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// ContentError says that fetched or cached bytes are not what was signed or
// locked.
type ContentError struct {
	What      string
	Want, Got string // sha256 hex, or sizes
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("%s has wrong content: want %s, got %s", e.What, e.Want, e.Got)
}
