package release

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// TargetFormat is the format of Target that this version writes. A reader
// refuses a higher one: it may hold a condition that the reader does not know.
const TargetFormat = 1

// Names of a published release's files; each lies at TargetPath.
const (
	TargetUKI        = "wayside.efi" // carries the Target
	TargetIndex      = "root.index"  // see image/delta
	TargetPack       = "root.pack"
	TargetSBOM       = "sbom.spdx.json"
	TargetProvenance = "provenance.json"
)

// MaxMetadata is the most bytes that a box reads of a repository's list of
// targets; every release that is offered takes some 1.2 kB of it, and 1.6 kB
// more with ten patches.
const MaxMetadata = 2 << 20

// TargetPatch is the name of a file, optional, that makes a release of the one
// with that root hash (hex), see image/delta.
func TargetPatch(from string) string { return "from-" + from[:min(len(from), 16)] + ".patch" }

// IsPatch says whether a release's file is a patch.
func IsPatch(file string) bool {
	return strings.HasPrefix(file, "from-") && strings.HasSuffix(file, ".patch")
}

// KindRelease is the kind of a published release: UKI and root, what a slot holds.
const KindRelease = "release"

// TargetPath is a file's path among the TUF targets.
func TargetPath(board, version, file string) string { return path.Join(board, version, file) }

// Target is what a published release says of itself: the "custom" object of
// its UKI in the signed TUF targets. Unknown fields are ignored.
type Target struct {
	Format  int    `json:"format"`
	Kind    string `json:"kind"`
	Board   string `json:"board"`
	Arch    string `json:"arch"` // GOARCH
	Version string `json:"version"`
	Counter uint64 `json:"counter"`
	// MinCounter is the counter of the oldest release that this one may be
	// installed from; 0 for any.
	MinCounter uint64 `json:"min_counter,omitempty"`
	// Downgrade permits a box that has committed a higher counter to take this
	// release, and lowers the box's floor when it commits.
	Downgrade bool `json:"downgrade,omitempty"`
	// BootLoader has a box that commits this release install the boot loader
	// that it carries. Without it no release touches the boot loader.
	BootLoader bool `json:"boot_loader,omitempty"`
	// DropsDrivers names drivers, by their modules, that this release leaves
	// out on purpose: a box is not kept from it for a device that one of them
	// drives.
	DropsDrivers []string `json:"drops_drivers,omitempty"`
	RootHash     string   `json:"root_hash"`   // dm-verity, hex; the UKI's command line says the same
	DataBlocks   int64    `json:"data_blocks"` // of layout.VerityBlock bytes
	RootBytes    int64    `json:"root_bytes"`  // file system, superblock and hash tree: what the slot must hold
	UKIBytes     int64    `json:"uki_bytes"`
	PackBytes    int64    `json:"pack_bytes"`      // a full download of root and kernel image by root.pack
	Notes        string   `json:"notes,omitempty"` // what changed, for people
}

// Path is a file's path among the TUF targets.
func (t Target) Path(file string) string { return TargetPath(t.Board, t.Version, file) }

// DecodeTarget reads a target's custom object and refuses what cannot be.
func DecodeTarget(data []byte) (Target, error) {
	var t Target
	if err := json.Unmarshal(data, &t); err != nil {
		return Target{}, fmt.Errorf("decode release target: %v", err)
	}
	if t.Format < 1 || t.Format > TargetFormat {
		return Target{}, fmt.Errorf("release target has format %d, this version reads up to %d", t.Format, TargetFormat)
	}
	return t, t.validate()
}

func (t Target) validate() error {
	r := Release{Version: t.Version, Board: t.Board, Epoch: 1, Counter: t.Counter}
	if err := r.Validate(); err != nil {
		return err
	}
	switch {
	case t.Counter == 0:
		return fmt.Errorf("release target %s: has no counter", t.Version)
	case t.DataBlocks < 1 || t.DataBlocks > 1<<32:
		return fmt.Errorf("release target %s: root of %d blocks", t.Version, t.DataBlocks)
	case t.RootBytes < 0 || t.UKIBytes < 0 || t.PackBytes < 0:
		return fmt.Errorf("release target %s: a size is negative", t.Version)
	case slices.ContainsFunc(t.DropsDrivers, func(name string) bool { return !versionWords.MatchString(name) }):
		return fmt.Errorf("release target %s: drops drivers %q, of which one is no name of a module", t.Version, t.DropsDrivers)
	case !isSHA256(t.RootHash):
		return fmt.Errorf("release target %s: root hash %q is no SHA-256 in hex", t.Version, t.RootHash)
	}
	return nil
}

func isSHA256(s string) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == 32
}
