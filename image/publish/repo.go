// Package publish keeps a TUF repository of releases: a folder of static
// files for any web server or a stick, that boxes update from.
//
//	timestamp.json                          the only file that is ever replaced
//	N.snapshot.json N.targets.json          consistent snapshots
//	1.root.json 2.root.json …               every root, see package keys
//	targets/BOARD/VERSION/SHA256.NAME       the files of a release, see release.Target
package publish

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/release"
)

type (
	targetsMeta   = metadata.Metadata[metadata.TargetsType]
	snapshotMeta  = metadata.Metadata[metadata.SnapshotType]
	timestampMeta = metadata.Metadata[metadata.TimestampType]
)

const timestampFile = "timestamp.json"

// Repo is a repository that one publisher works on. Nothing that it does is
// seen by a box before Commit.
type Repo struct {
	files folder
	keys  *keys.Folder
	now   time.Time
	pack  Pack

	patches int // at most, for each release
	note    func(format string, args ...any)

	roots     []*keys.Root // of the key folder, all
	published int64        // newest root in the repository, 0 for none
	targets   *targetsMeta
	snapshot  *snapshotMeta   // nil in a new repository
	timestamp *timestampMeta  // nil in a new repository
	changed   bool            // targets were
	added     map[string]bool // boards that Add was for
	unlock    func()
}

// Open reads a repository and checks that it is the key folder's, or begins
// one. Close lets go of it. pack turns roots into what boxes download.
func Open(dir string, k *keys.Folder, pack Pack, now time.Time) (*Repo, error) {
	r := &Repo{files: folder{dir: dir}, keys: k, now: now, pack: pack, added: map[string]bool{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	unlock, err := r.files.lock()
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	r.unlock = unlock
	if err = r.read(); err == nil {
		err = r.files.sweep(nil)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	return r, nil
}

// Close lets the next publisher in.
func (r *Repo) Close() { r.unlock() }

func (r *Repo) read() (err error) {
	if r.roots, err = r.keys.Roots(); err != nil {
		return err
	}
	if len(r.roots) == 0 {
		return fmt.Errorf("%s holds no update keys; make them with wayside keys init", r.keys.Dir())
	}
	if root := r.root(); root.Signed.IsExpired(r.now) {
		return fmt.Errorf("update root %d has expired on %s; wayside keys renew", root.Signed.Version, root.Signed.Expires.Format(time.DateOnly))
	}
	if err := r.readRoots(); err != nil {
		return err
	}
	r.timestamp = &timestampMeta{}
	data, err := os.ReadFile(r.files.path(timestampFile))
	if errors.Is(err, fs.ErrNotExist) {
		r.targets, r.timestamp = metadata.Targets(r.now), nil
		r.targets.Signed.Version = 0
		return nil
	}
	if err != nil {
		return err
	}
	return r.readMetadata(data)
}

// root is the newest root.
func (r *Repo) root() *keys.Root { return r.roots[len(r.roots)-1] }

// readRoots finds the newest published root and compares all with ours.
func (r *Repo) readRoots() error {
	for n := int64(1); ; n++ {
		name := metaFile(n, keys.RoleRoot)
		data, err := os.ReadFile(r.files.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if n > int64(len(r.roots)) {
			return fmt.Errorf("it has root %d, the key folder %s only %d; get the newest key folder", n, r.keys.Dir(), len(r.roots))
		}
		if ours, err := keys.ReadRoot(r.keys.Dir(), n); err != nil {
			return err
		} else if !bytes.Equal(ours, data) {
			return fmt.Errorf("%s is not the one in %s: the repository belongs to other keys", name, r.keys.Dir())
		}
		r.published = n
	}
}

// live are the roots that a box may hold when it next looks: the newest one
// published, and those that are about to be.
func (r *Repo) live() []*keys.Root { return r.roots[max(r.published, 1)-1:] }

func (r *Repo) readMetadata(timestamp []byte) error {
	if _, err := r.timestamp.FromBytes(timestamp); err != nil {
		return fmt.Errorf("%s is damaged: %v; bring it back from a copy, or publish the images into a new folder", timestampFile, err)
	}
	if err := verified(r, keys.RoleTimestamp, r.timestamp); err != nil {
		return err
	}
	r.snapshot, r.targets = &snapshotMeta{}, &targetsMeta{}
	if err := readLinked(r, keys.RoleSnapshot, r.timestamp.Signed.Meta, r.snapshot); err != nil {
		return err
	}
	return readLinked(r, keys.RoleTargets, r.snapshot.Signed.Meta, r.targets)
}

// readLinked reads what other metadata names.
func readLinked[T metadata.Roles](r *Repo, role string, by map[string]*metadata.MetaFiles, m *metadata.Metadata[T]) error {
	link := by[role+".json"]
	if link == nil {
		return fmt.Errorf("no %s.json is named", role)
	}
	name := metaFile(link.Version, role)
	data, err := os.ReadFile(r.files.path(name))
	if err != nil {
		return err
	}
	if err := link.VerifyLengthHashes(data); err != nil {
		return fmt.Errorf("%s: %v", name, err)
	}
	if _, err := m.FromBytes(data); err != nil {
		return fmt.Errorf("%s: %v", name, err)
	}
	return verified(r, role, m)
}

func verified[T metadata.Roles](r *Repo, role string, m *metadata.Metadata[T]) error {
	for _, root := range r.live() {
		if root.VerifyDelegate(role, m) == nil {
			return nil
		}
	}
	return fmt.Errorf("%s.json is not signed by the keys of %s", role, r.keys.Dir())
}

func metaFile(version int64, role string) string { return fmt.Sprintf("%d.%s.json", version, role) }

// Entry is one published release.
type Entry struct {
	release.Target
	Files map[string]int64 `json:"files"` // bytes by name
}

// Releases lists what is published, by board, the newest first.
func (r *Repo) Releases() ([]Entry, error) {
	var all []Entry
	for name, file := range r.targets.Signed.Targets {
		if path.Base(name) != release.TargetUKI || file.Custom == nil {
			continue
		}
		t, err := release.DecodeTarget(*file.Custom)
		if err != nil {
			return nil, fmt.Errorf("published %s: %w", name, err)
		}
		e := Entry{Target: t, Files: map[string]int64{}}
		for other, file := range r.targets.Signed.Targets {
			if path.Dir(other) == path.Dir(name) {
				e.Files[path.Base(other)] = file.Length
			}
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Board, b.Board), cmp.Compare(b.Counter, a.Counter), cmp.Compare(a.Version, b.Version))
	})
	return all, nil
}

// Expiries says until when what each role has signed is good; it is empty for
// a repository that nothing was published to.
func (r *Repo) Expiries() map[string]time.Time {
	if r.timestamp == nil {
		return nil
	}
	return map[string]time.Time{
		keys.RoleRoot: r.root().Signed.Expires, keys.RoleTargets: r.targets.Signed.Expires,
		keys.RoleSnapshot: r.snapshot.Signed.Expires, keys.RoleTimestamp: r.timestamp.Signed.Expires,
	}
}

// custom is a target as TUF metadata carries it, which every box can read.
func custom(t release.Target) (*json.RawMessage, error) {
	data, err := json.Marshal(t)
	if err == nil {
		_, err = release.DecodeTarget(data)
	}
	raw := json.RawMessage(data)
	return &raw, err
}
