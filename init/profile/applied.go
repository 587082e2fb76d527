package profile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// appliedFile keeps the profile that was applied to the running box, below the
// state partition; docs/formats/partition-layout.md. It is one file with all that
// says when it counts, so that a power cut leaves the old or the new decision.
const appliedFile = "site/applied.json"

const (
	appliedVersion = 1
	// maxApplied bounds the file, in bytes: two profiles in base64.
	maxApplied = 3 * site.MaxSize
)

// applied is what appliedFile holds.
type applied struct {
	Version int       `json:"version"` // appliedVersion
	Time    time.Time `json:"time"`
	// Over is the digest of the boot partition's last good profile at that
	// time, "" for none: once there is another one, that is the later decision.
	Over    string `json:"over"`
	Profile []byte `json:"profile"`
	// Before is what was in force until then; nil for the built-in one.
	Before []byte `json:"before,omitempty"`
}

// digest names a profile's text; "" for none.
func digest(text []byte) string {
	if text == nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// fromApplied gives the applied profile; the record alone if this release
// refuses the profile.
func (c Config) fromApplied(report *manifest.Profile) (*site.Profile, *applied) {
	rec, err := c.readApplied()
	if err != nil {
		c.complain(report, fmt.Sprintf("the applied site profile is passed over: %v", err))
	}
	if rec == nil {
		return nil, nil
	}
	p, err := within(func() (*site.Profile, error) { return c.parse("/state/"+appliedFile, rec.Profile) })
	if err != nil {
		c.complain(report, fmt.Sprintf("the applied site profile is refused: %v", err))
		return nil, rec
	}
	return p, rec
}

// readApplied gives nil if nothing is kept.
func (c Config) readApplied() (*applied, error) {
	text, err := read(c.State, appliedFile, maxApplied)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseApplied(text)
}

func parseApplied(text []byte) (*applied, error) {
	rec := &applied{}
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, fmt.Errorf("not readable: %v", err)
	}
	if rec.Version != appliedVersion {
		return nil, fmt.Errorf("version %d, this release knows %d", rec.Version, appliedVersion)
	}
	if len(rec.Profile) == 0 || len(rec.Profile) > site.MaxSize || len(rec.Before) > site.MaxSize {
		return nil, fmt.Errorf("it holds profiles of %d and %d bytes", len(rec.Profile), len(rec.Before))
	}
	return rec, nil
}

func (c Config) keepApplied(rec applied) error {
	rec.Version = appliedVersion
	text, err := json.Marshal(rec)
	if err == nil {
		err = vfs.WriteWhole(c.State, appliedFile, text)
	}
	if err != nil {
		return fmt.Errorf("keep the site profile: %w", err)
	}
	return nil
}

// dropApplied forgets what has been decided anew. Should that fail, or be cut
// off, the next start decides the same again.
func (c Config) dropApplied(report *manifest.Profile) {
	err := c.State.Remove(appliedFile)
	if err == nil {
		err = c.State.SyncDir(path.Dir(appliedFile))
	}
	if err != nil {
		c.complain(report, fmt.Sprintf("forget the applied site profile: %v", err))
		return
	}
	c.Log.Info("site profile: the boot partition's is newer than the applied one")
}
