package publish

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/release"
)

// Commit signs what changed and makes it seen. What a role signed before is
// signed anew when half of its time is over or its key has changed; timestamp
// always. Interrupted anywhere, the repository shows the old state or the new
// one, and the next Commit finishes the job.
//
// The order is what makes that so. Files and numbered metadata come first, of
// which nobody knows; timestamp.json names them all at once. New roots come
// last, because a box that has one asks for signatures of its keys: until then
// everything is signed by the keys of both, so a box can be on either side.
func (r *Repo) Commit() error {
	newTargets := r.changed || r.timestamp == nil || stale(r, keys.RoleTargets, r.targets, r.targets.Signed.Expires)
	if newTargets {
		s := &r.targets.Signed
		s.Version, s.Expires = r.next(s.Version), r.expires(keys.RoleTargets)
		if err := writeVersion(r, keys.RoleTargets, s.Version, r.targets); err != nil {
			return err
		}
	}
	newSnapshot := newTargets || stale(r, keys.RoleSnapshot, r.snapshot, r.snapshot.Signed.Expires)
	if newSnapshot {
		if err := r.writeSnapshot(); err != nil {
			return err
		}
	}
	if r.published == 0 { // a box needs the roots before anything else
		if err := r.writeRoots(); err != nil {
			return err
		}
	}
	if err := r.writeTimestamp(); err != nil {
		return err
	}
	if err := r.writeRoots(); err != nil {
		return err
	}
	r.changed = false
	return r.files.sweep(r.referenced())
}

// next is a version above the last. It follows the clock, so that a
// repository that was lost and made again is not older to boxes than the one
// they knew.
func (r *Repo) next(version int64) int64 { return max(version+1, r.now.Unix()) }

func (r *Repo) expires(role string) time.Time {
	return r.now.Add(r.keys.Expiry(role)).UTC().Truncate(time.Second)
}

// stale tells whether a role has to sign again what did not change.
func stale[T metadata.Roles](r *Repo, role string, m *metadata.Metadata[T], expires time.Time) bool {
	if r.now.Add(r.keys.Expiry(role) / 2).After(expires) {
		return true
	}
	for _, root := range r.live() {
		if root.VerifyDelegate(role, m) != nil {
			return true
		}
	}
	return false
}

func (r *Repo) writeSnapshot() error {
	if r.snapshot == nil {
		r.snapshot = metadata.Snapshot(r.now)
		r.snapshot.Signed.Version = 0
	}
	s := &r.snapshot.Signed
	s.Version, s.Expires = r.next(s.Version), r.expires(keys.RoleSnapshot)
	link, err := linkTo(r.targets, r.targets.Signed.Version)
	if err != nil {
		return err
	}
	s.Meta = map[string]*metadata.MetaFiles{keys.RoleTargets + ".json": link}
	return writeVersion(r, keys.RoleSnapshot, s.Version, r.snapshot)
}

func (r *Repo) writeTimestamp() error {
	if r.timestamp == nil {
		r.timestamp = metadata.Timestamp(r.now)
		r.timestamp.Signed.Version = 0
	}
	s := &r.timestamp.Signed
	s.Version, s.Expires = r.next(s.Version), r.expires(keys.RoleTimestamp)
	link, err := linkTo(r.snapshot, r.snapshot.Signed.Version)
	if err != nil {
		return err
	}
	s.Meta = map[string]*metadata.MetaFiles{keys.RoleSnapshot + ".json": link}
	if err := keys.SignRole(r.keys, keys.RoleTimestamp, r.timestamp, r.live()...); err != nil {
		return err
	}
	data, err := encode(r.timestamp)
	if err != nil {
		return err
	}
	return r.files.write(timestampFile, data)
}

// writeVersion signs and writes metadata under its number.
func writeVersion[T metadata.Roles](r *Repo, role string, version int64, m *metadata.Metadata[T]) error {
	if err := keys.SignRole(r.keys, role, m, r.live()...); err != nil {
		return err
	}
	data, err := encode(m)
	if err != nil {
		return err
	}
	if len(data) > release.MaxMetadata {
		return fmt.Errorf("%s.json would have %d bytes, and boxes read %d at most; keep fewer releases with --keep, or take some back with --remove", role, len(data), release.MaxMetadata)
	}
	return r.files.write(metaFile(version, role), data)
}

func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	data, err := m.ToBytes(false) // blanks would be a third of the list that every box reads
	return append(data, '\n'), err
}

// linkTo names metadata by version, length and hash.
func linkTo[T metadata.Roles](m *metadata.Metadata[T], version int64) (*metadata.MetaFiles, error) {
	data, err := encode(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &metadata.MetaFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}, Version: version}, nil
}

// writeRoots publishes the roots that are not yet, in order.
func (r *Repo) writeRoots() error {
	for n := r.published + 1; n <= int64(len(r.roots)); n++ {
		data, err := keys.ReadRoot(r.keys.Dir(), n)
		if err != nil {
			return fmt.Errorf("publish root %d: %w", n, err)
		}
		if err := r.files.write(metaFile(n, keys.RoleRoot), data); err != nil {
			return err
		}
		r.published = n
	}
	return nil
}

// referenced are the target files that the metadata names.
func (r *Repo) referenced() map[string]bool {
	keep := map[string]bool{}
	for name, file := range r.targets.Signed.Targets {
		keep[targetFile(name, file.Hashes["sha256"])] = true
	}
	return keep
}
