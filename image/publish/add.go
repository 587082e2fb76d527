package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
)

// Delta is the Pack that package delta makes.
func Delta(ctx context.Context, rel Release, index, pack io.Writer) (full int64, err error) {
	stats, err := delta.Write(ctx, index, pack, contents(rel)...)
	return stats.Full, err
}

func contents(rel Release) []delta.Content {
	return []delta.Content{
		{Name: delta.Root, Data: rel.Root, Size: rel.Root.Size()},
		{Name: delta.UKI, Data: bytes.NewReader(rel.UKI), Size: int64(len(rel.UKI))},
	}
}

// Pack writes a release as boxes download it, an index and the pieces that it
// tells of, and says how many bytes a box reads that holds none of it.
type Pack func(ctx context.Context, rel Release, index, pack io.Writer) (full int64, err error)

// Release is what is published: a verified image, taken apart.
type Release struct {
	Target release.Target // but for PackBytes
	UKI    []byte
	// Root is file system and verity superblock; the tree is computed from it.
	Root       *io.SectionReader
	UpdateRoot []byte // the TUF root that the release trusts at first
	SBOM       []byte
	Provenance []byte
}

// Add puts a release into the repository, for Commit to make it seen. A
// release that is there already, equal in all, is not added again.
func (r *Repo) Add(ctx context.Context, rel Release) (added bool, err error) {
	t := rel.Target
	if err := r.checkRoot(rel); err != nil {
		return false, fmt.Errorf("publish %s for %s: %w", t.Version, t.Board, err)
	}
	if same, err := r.checkNew(rel); same || err != nil {
		return false, err
	}
	if _, err := custom(t); err != nil {
		return false, fmt.Errorf("publish %s for %s: %w", t.Version, t.Board, err)
	}
	files := map[string]stored{}
	if t.PackBytes, err = r.storePack(ctx, rel, files); err != nil {
		return false, err
	}
	if err := r.storePatches(ctx, rel, files); err != nil {
		return false, err
	}
	for name, data := range map[string][]byte{release.TargetSBOM: rel.SBOM, release.TargetProvenance: rel.Provenance, release.TargetUKI: rel.UKI} {
		if data == nil {
			continue
		}
		if files[name], err = r.files.store(t.Path(name), func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil {
			return false, err
		}
	}
	for name, file := range files {
		entry := &metadata.TargetFiles{Length: file.length, Hashes: metadata.Hashes{"sha256": file.sha256}, Path: t.Path(name)}
		if name == release.TargetUKI {
			if entry.Custom, err = custom(t); err != nil {
				return false, err
			}
		}
		r.targets.Signed.Targets[t.Path(name)] = entry
	}
	r.changed, r.added[t.Board] = true, true
	return true, nil
}

// checkRoot refuses a release that could never update again from here.
func (r *Repo) checkRoot(rel Release) error {
	if rel.UpdateRoot == nil {
		return errors.New("the image holds no update root, a box that runs it would never update again; make update keys with wayside keys init and build it anew")
	}
	root, err := (&keys.Root{}).FromBytes(rel.UpdateRoot)
	if err != nil {
		return fmt.Errorf("update root of the image: %v", err)
	}
	ours, err := keys.ReadRoot(r.keys.Dir(), root.Signed.Version)
	if err != nil || !bytes.Equal(ours, rel.UpdateRoot) {
		return fmt.Errorf("the image was built with other update keys than those in %s: a box that runs it would never update from here", r.keys.Dir())
	}
	return nil
}

// checkNew compares a release with those of its board.
func (r *Repo) checkNew(rel Release) (same bool, err error) {
	t := rel.Target
	if int64(len(rel.UKI)) > manifest.StagedMax {
		return false, fmt.Errorf("publish %s for %s: a kernel image of %d bytes does not fit into a slot's staging area", t.Version, t.Board, len(rel.UKI))
	}
	all, err := r.Releases()
	if err != nil {
		return false, err
	}
	for _, e := range all {
		if e.Board != t.Board {
			continue
		}
		if e.Version == t.Version {
			return true, r.checkSame(e, rel)
		}
		switch {
		case e.Counter == t.Counter:
			return false, fmt.Errorf("publish %s for %s: counter %d is that of %s; build it with a higher --counter", t.Version, t.Board, t.Counter, e.Version)
		case e.Counter > t.Counter && !t.Downgrade:
			return false, fmt.Errorf("publish %s for %s: counter %d is lower than %d of %s: no box that has seen that would take it; build it with a higher --counter, or permit it with --downgrade",
				t.Version, t.Board, t.Counter, e.Counter, e.Version)
		}
	}
	return false, nil
}

func (r *Repo) checkSame(e Entry, rel Release) error {
	t, had := rel.Target, e.Target
	sum := sha256.Sum256(rel.UKI)
	uki := r.targets.Signed.Targets[t.Path(release.TargetUKI)]
	if !bytes.Equal(uki.Hashes["sha256"], sum[:]) {
		return fmt.Errorf("publish %s for %s: another image of that version is published; give it a version of its own, or take the other back with --remove %s", t.Version, t.Board, t.Version)
	}
	t.PackBytes = had.PackBytes
	if !reflect.DeepEqual(t, had) {
		return fmt.Errorf("publish %s for %s: it is published with other notes or conditions; take it back first with --remove %s", t.Version, t.Board, t.Version)
	}
	return nil
}

// storePack writes index and pack and returns the size of a full download.
func (r *Repo) storePack(ctx context.Context, rel Release, files map[string]stored) (full int64, err error) {
	var index bytes.Buffer
	t := rel.Target
	files[release.TargetPack], err = r.files.store(t.Path(release.TargetPack), func(w io.Writer) error {
		full, err = r.pack(ctx, rel, &index, w)
		return err
	})
	if err != nil {
		return 0, err
	}
	files[release.TargetIndex], err = r.files.store(t.Path(release.TargetIndex), func(w io.Writer) error {
		_, err := index.WriteTo(w)
		return err
	})
	return full, err
}

// Remove takes a version back, for one board or, if board is empty, for all.
// Boxes that run it keep it.
func (r *Repo) Remove(version, board string) error {
	all, err := r.Releases()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e Entry) bool { return e.Version != version || board != "" && e.Board != board })
	if len(all) == 0 {
		return fmt.Errorf("remove %s: no such release is published for %s", version, orAny(board))
	}
	for _, e := range all {
		r.drop(e, func(string) bool { return true })
	}
	return nil
}

func orAny(board string) string {
	if board == "" {
		return "any board"
	}
	return board
}
