package updatertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
)

// NewProgram is NewRelease with content that compresses as programs do.
func NewProgram(t testing.TB, version string, counter uint64, blocks int64, uki int) Release {
	t.Helper()
	r := NewRelease(t, version, counter, blocks, uki)
	for i := range r.Content[:blocks*layout.VerityBlock] {
		r.Content[i] &= 0x0f
	}
	return r.seal(t, version, counter)
}

// Move makes a release that differs from r as when a program's code moved: in
// a number every 200 bytes.
func Move(t testing.TB, r Release, version string, counter uint64) Release {
	t.Helper()
	r.Content = bytes.Clone(r.Content)
	for at := 50; at < len(r.Content)-layout.VerityBlock; at += 200 {
		number := r.Content[at:]
		binary.LittleEndian.PutUint32(number, binary.LittleEndian.Uint32(number)+64)
	}
	return r.seal(t, version, counter)
}

// AddPatch publishes a patch from another release for one that was added.
func (r Release) AddPatch(repo *Repo, from Release) {
	repo.t.Helper()
	var patch bytes.Buffer
	index := repo.Files[Path(r.Target.Path(release.TargetIndex), repo.Targets[r.Target.Path(release.TargetIndex)].Hashes["sha256"])]
	var old []delta.Source
	for _, c := range from.contents() {
		old = append(old, delta.Source{Name: c.Name, Content: c.Data, Size: c.Size})
	}
	repo.must(delta.WritePatch(context.Background(), &patch, index, old, r.contents()...))
	repo.Add(r.Target.Path(release.TargetPatch(from.Target.RootHash)), patch.Bytes(), nil)
}

func (r Release) contents() []delta.Content {
	return []delta.Content{
		{Name: delta.Root, Data: bytes.NewReader(r.Content), Size: int64(len(r.Content))},
		{Name: delta.UKI, Data: bytes.NewReader(r.UKI), Size: int64(len(r.UKI))},
	}
}
