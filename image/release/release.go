// Package release is the identity of a release: what the box says it runs,
// and the seed of every identifier in an image.
package release

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Release is one build for one board. It is stored as JSON at
// layout.RootRelease; unknown fields are ignored by readers.
type Release struct {
	Version string `json:"version"`
	Board   string `json:"board"`
	Arch    string `json:"arch"`  // GOARCH
	Epoch   int64  `json:"epoch"` // Unix seconds
	// Counter orders the releases of a board, whatever their versions say: a
	// box does not go back below the highest it has committed.
	Counter uint64 `json:"counter,omitempty"`
	Kernel  string `json:"kernel"` // uname -r
	// Services holds the unit names of the services in the root, each with
	// its description.
	Services map[string]string `json:"services,omitempty"`
}

var versionWords = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._~-]{0,62}$`)

// Validate refuses what would not survive in a file name, on the kernel
// command line or in a boot entry's name.
func (r Release) Validate() error {
	switch {
	case !versionWords.MatchString(r.Version):
		return fmt.Errorf("release version %q: want letters, digits and . _ ~ -, beginning with a letter or digit, at most 63", r.Version)
	case !versionWords.MatchString(r.Board):
		return fmt.Errorf("release board %q: want letters, digits and . _ ~ -, beginning with a letter or digit, at most 63", r.Board)
	case r.Counter >= 1<<53:
		return fmt.Errorf("release counter %d: want less than 2^53, which every reader of JSON can hold", r.Counter)
	case r.Epoch <= 0:
		return fmt.Errorf("release epoch %d: want Unix seconds after 1970", r.Epoch)
	}
	return nil
}

// DefaultCounter is the counter of a release that is given none: its epoch,
// so that a build from a newer archive counts as newer without anybody's care.
func DefaultCounter(epoch int64) uint64 { return uint64(max(epoch, 0)) }

// Encode returns the stored form.
func (r Release) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// Decode reads the stored form.
func Decode(data []byte) (Release, error) {
	var r Release
	if err := json.Unmarshal(data, &r); err != nil {
		return Release{}, fmt.Errorf("decode release: %v", err)
	}
	return r, nil
}

// Salt derives 32 bytes for a purpose, such as the salt of the hash tree.
func (r Release) Salt(purpose string) [32]byte {
	h := sha256.New()
	for _, word := range []string{"wayside release v1", r.Version, r.Board, r.Arch, r.Kernel, purpose} {
		writeWord(h, []byte(word))
	}
	writeWord(h, binary.BigEndian.AppendUint64(nil, uint64(r.Epoch)))
	return [32]byte(h.Sum(nil))
}

// writeWord puts the length first, so that no two lists of words are one.
func writeWord(h interface{ Write([]byte) (int, error) }, word []byte) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(word))))
	h.Write(word)
}

// GUID is a UUID in the byte order it is written in (RFC 9562).
type GUID [16]byte

// Derive returns the GUID for a purpose: a UUID of version 8 (RFC 9562,
// section 5.8) from the release's identity.
func (r Release) Derive(purpose string) GUID {
	salt := r.Salt(purpose)
	g := GUID(salt[:16])
	g[6] = g[6]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	return g
}

// String is the form GPT tools print, in capitals.
func (g GUID) String() string {
	x := strings.ToUpper(hex.EncodeToString(g[:]))
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}
