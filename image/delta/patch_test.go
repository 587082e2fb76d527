package delta_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

// moved are two releases of a program in which a function came to be: what is
// behind it is 64 bytes further, and every number that refers there is
// another. size is that of the program in bytes.
func moved(t testing.TB, size int) (old, new published, patch []byte) {
	rnd := seeded(40)
	code := program(rnd, size)
	changed := bytes.Clone(code)
	for at := rnd.IntN(200); at+4 < len(changed); at += 100 + rnd.IntN(600) {
		number := changed[at:]
		binary.LittleEndian.PutUint32(number, binary.LittleEndian.Uint32(number)+64)
	}
	kernel := noise(rnd, size/10)
	half := size / 2 &^ 7
	old = publish(t, image(program(rnd, 9000), code), kernel)
	new = publish(t, image(program(rnd, 100), program(rnd, 20_000), changed[:half], program(rnd, 4096), changed[half:]), kernel)
	return old, new, writePatch(t, old, new)
}

func writePatch(t testing.TB, old, r published) []byte {
	t.Helper()
	var patch bytes.Buffer
	err := delta.WritePatch(ctx, &patch, r.index, newBox(old).have,
		content(delta.Root, r.contents[delta.Root]), content(delta.UKI, r.contents[delta.UKI]))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Bytes()
}

func patchFile(data []byte) *delta.PatchFile {
	return &delta.PatchFile{Size: int64(len(data)), Read: func(context.Context) ([]byte, error) { return data, nil }}
}

func TestPatch(t *testing.T) {
	old, r, patch := moved(t, 1<<20)
	without := newBox(old).mustTake(t, r).fetched
	b := newBox(old)
	b.patch = patchFile(patch)
	with := b.mustTake(t, r).fetched
	// A function of 24 KiB is new; 1 MiB is like before but for a number in 400 bytes.
	if with > without/8 || with < int64(len(patch)) {
		t.Errorf("%d bytes with a patch of %d, %d without", with, len(patch), without)
	}
	t.Logf("%d bytes without, %d with a patch of %d", without, with, len(patch))
}

// Whatever is wrong with a patch, the release comes out of the pack.
func TestAPatchOfNoUse(t *testing.T) {
	old, r, patch := moved(t, 1<<20)
	rnd := seeded(41)
	other := publish(t, edit(rnd, bytes.Clone(old.contents[delta.Root])), noise(rnd, 50_000))
	without := newBox(old).mustTake(t, r).fetched
	dear := patchFile(patch)
	dear.Size = int64(len(r.pack))
	dear.Read = func(context.Context) ([]byte, error) {
		t.Error("a patch was fetched that costs too much")
		return nil, errBroken
	}
	for name, tt := range map[string]struct {
		old   published
		patch *delta.PatchFile
		most  int64 // bytes fetched
	}{
		"another release is held": {other, patchFile(patch), int64(len(r.pack))},
		"nothing is held":         {published{}, patchFile(patch), int64(len(r.pack))},
		"for another index":       {old, patchFile(writePatch(t, old, other)), without + int64(len(patch)) + 100_000},
		"cannot be had": {old, &delta.PatchFile{Size: 1000, Read: func(context.Context) ([]byte, error) {
			return nil, errors.New("404")
		}}, without},
		"empty":    {old, patchFile(nil), without},
		"too dear": {old, dear, without},
	} {
		b := newBox(tt.old)
		b.patch = tt.patch
		if got := b.mustTake(t, r).fetched; got > tt.most {
			t.Errorf("%s: %d bytes fetched, want %d at most", name, got, tt.most)
		}
	}
	for range 50 {
		bad := bytes.Clone(patch)
		bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
		b := newBox(old)
		b.patch = patchFile(bad)
		b.mustTake(t, r)
	}
}

// A patch that was in use when the power went is fetched again only if what is
// left is worth it.
func TestAPatchIsResumed(t *testing.T) {
	old, r, patch := moved(t, 1<<20)
	size := int64(len(r.contents[delta.Root]))
	for _, cut := range []int64{1000, size / 2, size - 200_000} {
		b := newBox(old)
		x, err := delta.ReadIndex(r.index)
		if err != nil {
			t.Fatal(err)
		}
		p := &delta.Patcher{Index: x, Pack: delta.FilePack(bytes.NewReader(r.pack)), Have: b.have, Patch: patchFile(patch),
			Target: map[string]delta.File{delta.Root: &faulty{cut, b.target[delta.Root]}, delta.UKI: b.target[delta.UKI]}}
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(t.Context(), plan, nil); !errors.Is(err, errBroken) {
			t.Fatalf("cut at %d: got %v", cut, err)
		}
		b.patch = patchFile(patch)
		b.mustTake(t, r)
	}
}

// FuzzPatch (slow; FuzzPatchContent is quicker): anything may come in the place of a patch, the release comes out.
func FuzzPatch(f *testing.F) {
	old, r, patch := moved(f, 60_000)
	const head = 21 // magic, version, digest of the index
	f.Add(patch[head:])
	f.Add(patch[head : head+100])
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBox(old)
		b.patch = patchFile(append(bytes.Clone(patch[:head]), data...))
		b.patch.Size = 1
		b.mustTake(t, r)
	})
}
