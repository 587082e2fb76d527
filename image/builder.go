// Package image turns a board, a kernel and our binaries into a signed disk
// image, and tells what an image holds and whether it was altered.
package image

import (
	"context"
	"crypto"
	"crypto/x509"
	"io/fs"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image/attest"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/rootfs"
)

// Input is everything an image is made of. Nothing else is read: no clock, no
// environment, no host file beside those named here. Two builds from equal
// inputs are equal byte for byte.
type Input struct {
	// Name is the file name of the image without ".img"; default
	// "wayside-<board>-<version>".
	Name    string
	Version string // release version: letters, digits and . - _ ~
	Epoch   int64  // Unix seconds; every time stamp in the image, and the lowest time a box trusts
	// Counter orders releases; 0 means release.DefaultCounter of the epoch.
	Counter uint64
	Board   boards.Board

	// Kernel and Loader are the unpacked Debian packages that
	// Board.Packages names: boot/vmlinuz-<release>, usr/lib/modules/<release>;
	// usr/lib/systemd/boot/efi.
	Kernel fs.FS
	Loader fs.FS
	// Firmware are the unpacked packages that Board.Firmware names, in its order.
	Firmware []fs.FS
	// Programs are the unpacked packages that Board.Programs names, in its order.
	Programs []fs.FS
	// Boot are the unpacked packages that Board.BootPackages names, in order.
	Boot []fs.FS
	// Packages are the Debian packages in the image, for its package list.
	Packages []Package

	// Init and Services are paths of the compiled, static cmd/init and
	// cmd/waysided for the board's architecture.
	Init     string
	Services string
	// Overlays are laid over the root in order; a later entry replaces an
	// earlier one of the same path.
	Overlays []rootfs.Entry
	// Site is the site profile put on the boot partition; nil for none.
	Site []byte

	// Source says, for the provenance, what Init and Services were compiled
	// from; empty if nobody knows.
	Source attest.Source

	Keys keys.Pair
	// UpdateRoot is the signed TUF root that boxes of this image trust at
	// first, as JSON; nil for an image that takes no updates.
	UpdateRoot []byte
	// Enrol puts the keys of Secure Boot on the boot partition; nil for none.
	Enrol *Enrolment
	// PolicyKey, RSA of 2048 bits, vouches for the kernel image to TPMs that
	// keep the keys of encrypted partitions; nil for an image that opens none.
	PolicyKey crypto.Signer
	// Encrypt has boxes make their state and data partitions encrypted.
	Encrypt bool
	// CacheDir keeps what is costly to derive from the kernel package, by
	// content. It never changes what is built.
	CacheDir string
}

// Enrolment is what the boot loader enrols in a firmware that is in setup mode.
type Enrolment struct {
	Mode     EnrolMode
	Platform keys.Platform
	// Vendors are the certificates that stay in db beside ours, for option
	// ROMs.
	Vendors []*x509.Certificate
}

// Package is one Debian package of the image.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	SHA256  string `json:"sha256"` // of the .deb, hex
}

// Event tells a Builder's caller where the build is. A step sends one event
// when it begins (Done false) and one when it has succeeded.
type Event struct {
	Step   string // "modules", "root", "verity", …
	Index  int    // from 1
	Total  int
	Done   bool
	Detail string // what came out, in words; set with Done
}

// Result says what Build wrote.
type Result struct {
	Path       string `json:"path"`
	SBOM       string `json:"sbom"` // files beside the image
	Provenance string `json:"provenance"`
	Size       int64  `json:"size_bytes"`   // apparent size of the sparse file
	Stored     int64  `json:"stored_bytes"` // bytes that are not holes
	RootHash   string `json:"root_hash"`    // hex
	UKIBytes   int64  `json:"uki_bytes"`
	RootBytes  int64  `json:"root_bytes"` // file system and hash tree
}

// Builder builds one image. It may be used again; each Build starts afresh.
type Builder struct {
	Input Input
	// Compile, if set, makes the programs of Input.Init and Input.Services. It
	// is called beside the rest of a plan, which needs them last.
	Compile func(ctx context.Context) (init, services string, err error)
	// Progress, if set, is called from Build's goroutine.
	Progress func(Event)
}
