package delta_test

import (
	"bytes"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

// moved are two releases of a program of which every 200th byte is another,
// as when all code moved that other code refers to.
func moved(t testing.TB) (old, new published, patch []byte) {
	rnd := seeded(40)
	code := program(rnd, 1<<20)
	changed := bytes.Clone(code)
	for at := rnd.IntN(200); at < len(changed); at += 100 + rnd.IntN(600) {
		changed[at] += 16
	}
	kernel := noise(rnd, 100_000)
	old = publish(t, image(program(rnd, 9000), code), kernel)
	new = publish(t, image(program(rnd, 100), program(rnd, 20_000), changed), kernel)
	return old, new, writePatch(t, old, new)
}

func writePatch(t testing.TB, old, r published) []byte {
	t.Helper()
	var patch bytes.Buffer
	err := delta.WritePatch(ctx, &patch, r.index, delta.FilePack(bytes.NewReader(r.pack)), newBox(old).have,
		content(delta.Root, r.contents[delta.Root]), content(delta.UKI, r.contents[delta.UKI]))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Bytes()
}

// takePatched takes a release with the help of a patch.
func (b *box) takePatched(t testing.TB, r published, patch []byte) (fetched int64, err error) {
	t.Helper()
	x, err := delta.ReadIndex(r.index)
	if err != nil {
		t.Fatal(err)
	}
	read, err := delta.ReadPatch(patch, r.index, x, b.have)
	if err != nil {
		return 0, err
	}
	p := &delta.Patcher{Index: x, Pack: delta.FilePack(bytes.NewReader(r.pack)), Have: b.have, Patch: read,
		Target: map[string]delta.File{delta.Root: b.target[delta.Root], delta.UKI: b.target[delta.UKI]}}
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context(), plan, nil); err != nil {
		t.Fatal(err)
	}
	b.holds(t, r)
	return p.Fetched(), nil
}

func TestPatch(t *testing.T) {
	old, r, patch := moved(t)
	without := newBox(old).mustTake(t, r).fetched
	fetched, err := newBox(old).takePatched(t, r, patch)
	if err != nil {
		t.Fatal(err)
	}
	if with := fetched + int64(len(patch)); with > without/8 {
		t.Errorf("%d bytes with a patch, %d without", with, without)
	}
	t.Logf("%d bytes without, %d with a patch of %d", without, fetched, len(patch))
}

// A patch that does not fit costs what the release costs without it.
func TestAPatchThatDoesNotFit(t *testing.T) {
	old, r, patch := moved(t)
	rnd := seeded(41)
	other := publish(t, edit(rnd, bytes.Clone(old.contents[delta.Root])), noise(rnd, 50_000))
	for name, b := range map[string]*box{"another release is held": newBox(other), "nothing is held": newBox(published{})} {
		if _, err := b.takePatched(t, r, patch); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 50 {
		bad := bytes.Clone(patch)
		bad[30+rnd.IntN(len(bad)-30)] ^= 1 << rnd.IntN(8)
		newBox(old).takePatched(t, r, bad) // refused when read, or without effect
	}
	if _, err := newBox(old).takePatched(t, other, patch); err == nil {
		t.Error("a patch for another index was read")
	}
}

func FuzzPatch(f *testing.F) {
	old, r, patch := moved(f)
	const head = 21 // magic, version, digest of the index
	f.Add(patch[head:])
	f.Add(patch[head : head+100])
	f.Fuzz(func(t *testing.T, data []byte) {
		newBox(old).takePatched(t, r, append(bytes.Clone(patch[:head]), data...))
	})
}
