package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/release"
)

// WithPatches has each release that is added come with patches from so many
// releases of its board before it, the newest ones. note is told of each; one
// that cannot be made is left out, boxes do without.
func (r *Repo) WithPatches(n int, note func(format string, args ...any)) {
	r.patches, r.note = n, note
}

// storePatches writes the patches for a release whose index is stored.
func (r *Repo) storePatches(ctx context.Context, rel Release, files map[string]stored) error {
	if r.patches == 0 {
		return nil
	}
	all, err := r.Releases()
	if err != nil {
		return err
	}
	index, err := r.readTarget(rel.Target.Path(release.TargetIndex), files[release.TargetIndex])
	if err != nil {
		return err
	}
	left := r.patches
	for _, e := range all { // newest first
		if e.Board != rel.Target.Board || left == 0 {
			continue
		}
		left--
		file, err := r.storePatch(ctx, rel, index, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.note("no patch from %s: %v", e.Version, err)
			continue
		}
		files[release.TargetPatch(e.RootHash)] = file
		r.note("patch from %s, %d kB", e.Version, (file.length+999)/1000)
	}
	return nil
}

// storePatch writes the patch from a published release, which it puts together
// in temporary files.
func (r *Repo) storePatch(ctx context.Context, rel Release, index []byte, from Entry) (stored, error) {
	var old []delta.Source
	target := map[string]delta.File{}
	for _, c := range contents(rel) {
		f, err := r.files.create(targetFile(from.Path(c.Name), nil))
		if err != nil {
			return stored{}, err
		}
		defer f.drop()
		target[c.Name] = f
		old = append(old, delta.Source{Name: c.Name, Content: f})
	}
	x, err := r.unpack(ctx, from, target)
	if err != nil {
		return stored{}, err
	}
	for i := range old {
		old[i].Size = x.Object(old[i].Name).Size
	}
	return r.files.store(rel.Target.Path(release.TargetPatch(from.RootHash)), func(w io.Writer) error {
		return delta.WritePatch(ctx, w, index, old, contents(rel)...)
	})
}

// unpack puts a published release together.
func (r *Repo) unpack(ctx context.Context, e Entry, target map[string]delta.File) (*delta.Index, error) {
	files := map[string]stored{}
	for _, name := range []string{release.TargetIndex, release.TargetPack} {
		f := r.targets.Signed.Targets[e.Path(name)]
		if f == nil {
			return nil, fmt.Errorf("%s is not published", e.Path(name))
		}
		files[name] = stored{f.Length, f.Hashes["sha256"]}
	}
	data, err := r.readTarget(e.Path(release.TargetIndex), files[release.TargetIndex])
	if err != nil {
		return nil, err
	}
	x, err := delta.ReadIndex(data)
	if err != nil {
		return nil, err
	}
	pack, err := os.Open(r.files.path(targetFile(e.Path(release.TargetPack), files[release.TargetPack].sha256)))
	if err != nil {
		return nil, err
	}
	defer pack.Close()
	for name := range target {
		if x.Object(name) == nil {
			return nil, fmt.Errorf("its index has no object %q", name)
		}
	}
	p := &delta.Patcher{Index: x, Pack: delta.FilePack(pack), Target: target}
	plan, err := p.Plan(ctx)
	if err != nil {
		return nil, err
	}
	return x, p.Apply(ctx, plan, nil)
}

// readTarget reads a file of the repository and checks that it is the one.
func (r *Repo) readTarget(name string, want stored) ([]byte, error) {
	data, err := os.ReadFile(r.files.path(targetFile(name, want.sha256)))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], want.sha256) {
		return nil, fmt.Errorf("%s is not what was published", name)
	}
	return data, nil
}
