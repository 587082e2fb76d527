// Package trust decides which releases of a repository may be believed: the
// client's side of TUF (https://theupdateframework.github.io/specification),
// with go-tuf doing the judging and the newest trusted metadata kept durably.
// Only the top-level roles are read; there are no delegations.
package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/vfs"
)

// most is the longest metadata of a role that is read, in bytes: memory is
// bounded before anything is believed.
func most(role string) int64 {
	switch role {
	case metadata.TIMESTAMP:
		return 16 << 10
	case metadata.ROOT:
		return 512 << 10
	}
	return release.MaxMetadata
}

// maxRotations is how many roots are followed in one refresh.
const maxRotations = 256

// Config is what a refresh works with.
type Config struct {
	FS   vfs.FS // where trusted metadata is kept
	Root []byte // the root that the running release carries: layout.RootTUF
	// Now is the time that expiry is judged by: never later than the true
	// time when the clock was not set, so that a box with a wild hardware
	// clock is not locked out; see docs/updates.md.
	Now time.Time
	Log *slog.Logger
}

// Error says that a repository is not to be believed, or not now.
type Error struct {
	Role string // of the metadata
	Why  string // for people
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s metadata: %s: %v", e.Role, e.Why, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Refresh follows the repository to its newest state. What it believes is on
// stable storage before it returns; a refusal leaves the state of before,
// but for roots, each of which stands by itself.
func Refresh(ctx context.Context, c Config, src source.Source) (*Catalog, error) {
	r := &refresh{Config: c, src: src}
	if err := r.root(ctx); err != nil {
		return nil, err
	}
	for _, role := range []string{metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		if err := r.follow(ctx, role); err != nil {
			return nil, err
		}
	}
	return newCatalog(r.set)
}

// Stored is the catalog of the metadata on this box, without any source;
// an error if there is none, or it has expired.
func Stored(c Config) (*Catalog, error) {
	r := &refresh{Config: c}
	if err := r.trusted(); err != nil {
		return nil, err
	}
	for _, role := range []string{metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		data, err := load(c.FS, role)
		if err == nil && data == nil {
			err = errors.New("never fetched")
		}
		if err == nil {
			err = r.believe(role, data, true)
		}
		if err != nil {
			return nil, explain(role, err)
		}
	}
	return newCatalog(r.set)
}

type refresh struct {
	Config
	src source.Source
	set *trustedmetadata.TrustedMetadata
}

// trusted starts from the newer of the release's root and the one kept.
func (r *refresh) trusted() error {
	set, err := trustedmetadata.New(r.Root)
	if err != nil {
		return fmt.Errorf("the root of trust in the running release cannot be used: %v", err)
	}
	r.set = set
	kept, err := load(r.FS, metadata.ROOT)
	if err == nil && kept != nil {
		var newer *trustedmetadata.TrustedMetadata
		if newer, err = trustedmetadata.New(kept); err == nil && newer.Root.Signed.Version > set.Root.Signed.Version {
			r.set = newer
		}
	}
	if err != nil {
		r.Log.Warn("the kept root of trust is passed over, the release's own is used", "error", err)
	}
	r.set.RefTime = r.Now.UTC()
	return nil
}

// root follows the chain of roots. Each is signed by the one before, so each
// is kept as soon as it is believed.
func (r *refresh) root(ctx context.Context) error {
	if err := r.trusted(); err != nil {
		return err
	}
	for range maxRotations {
		next := strconv.FormatInt(r.set.Root.Signed.Version+1, 10) + ".root.json"
		data, err := source.ReadAll(ctx, r.src, next, most(metadata.ROOT))
		// Object stores answer 403 for what is not there. Withholding a root is
		// in anybody's power who can answer at all; its expiry bounds that.
		if kind := source.KindOf(err); kind == source.NotThere || kind == source.Refused {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.believe(metadata.ROOT, data, false); err != nil {
			return explain(metadata.ROOT, err)
		}
		if err := saveRoot(r.FS, next, data); err != nil {
			return err
		}
		r.Log.Info("the root of trust was renewed", "version", r.set.Root.Signed.Version)
	}
	return nil
}

// follow brings one role up to date: what is kept is loaded first, so that
// nothing older is believed, then what the source has.
func (r *refresh) follow(ctx context.Context, role string) error {
	kept, err := load(r.FS, role)
	if err != nil {
		r.Log.Warn("kept metadata is passed over", "error", err)
	}
	if kept != nil {
		// What is kept may have expired, or belong to keys that were replaced.
		if err := r.believe(role, kept, true); err == nil && role != metadata.TIMESTAMP {
			return nil
		}
	}
	data, err := source.ReadAll(ctx, r.src, r.name(role), most(role))
	if err != nil {
		return err
	}
	if err := r.believe(role, data, false); errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return nil
	} else if err != nil {
		return explain(role, err)
	}
	return save(r.FS, role, data)
}

// believe hands metadata to go-tuf, which judges it and remembers it. A key
// that was stolen can sign metadata with a part left out, which go-tuf does
// not survive.
func (r *refresh) believe(role string, data []byte, kept bool) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &metadata.ErrRepository{Msg: fmt.Sprintf("is malformed: %v", p)}
		}
	}()
	switch role {
	case metadata.ROOT:
		_, err = r.set.UpdateRoot(data)
	case metadata.TIMESTAMP:
		_, err = r.set.UpdateTimestamp(data)
	case metadata.SNAPSHOT:
		_, err = r.set.UpdateSnapshot(data, kept)
	default:
		_, err = r.set.UpdateTargets(data)
	}
	return err
}

// name is the file of a role (TUF, section 6: consistent snapshots).
func (r *refresh) name(role string) string {
	if role == metadata.TIMESTAMP || !r.set.Root.Signed.ConsistentSnapshot {
		return role + ".json"
	}
	var version int64
	if meta := r.set.Timestamp.Signed.Meta["snapshot.json"]; role == metadata.SNAPSHOT && meta != nil {
		version = meta.Version
	}
	if role == metadata.TARGETS {
		if meta := r.set.Snapshot.Signed.Meta["targets.json"]; meta != nil {
			version = meta.Version
		}
	}
	return strconv.FormatInt(version, 10) + "." + role + ".json"
}

// explain puts go-tuf's verdict into words.
func explain(role string, err error) error {
	why := "cannot be used"
	switch {
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		why = "has expired: the repository was not renewed, or an old copy of it is served"
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		why = "is older than what this box has seen, or does not belong to the rest: an old or mixed repository"
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		why = "is not signed by enough of the keys that this box trusts"
	case errors.Is(err, &metadata.ErrLengthOrHashMismatch{}):
		why = "is not the file that the signed metadata names: altered, or a mixed repository"
	}
	return &Error{Role: role, Why: why, Err: err}
}
