package delta_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

func TestNothingHeldIsAFullDownload(t *testing.T) {
	rnd := seeded(1)
	r := publish(t, image(files(rnd, 8)...), program(rnd, 100_000))
	got := newBox(published{}).mustTake(t, r)
	if !got.plan.Whole || got.fetched != r.stats.Full {
		t.Errorf("fetched %d bytes, whole: %v; want the %d of a full download", got.fetched, got.plan.Whole, r.stats.Full)
	}
	if r.stats.Full >= r.stats.Bytes*3/4 {
		t.Errorf("a full download takes %d bytes for %d, which compress to half", r.stats.Full, r.stats.Bytes)
	}
}

func TestTheSameReleaseFetchesNothing(t *testing.T) {
	rnd := seeded(2)
	r := publish(t, image(files(rnd, 8)...), program(rnd, 100_000))
	if got := newBox(r).mustTake(t, r); got.fetched != 0 {
		t.Errorf("fetched %d bytes of a release that is held", got.fetched)
	}
}

// What a change costs at most, of what the changed file takes in full.
func TestSmallChangesAreCheap(t *testing.T) {
	rnd := seeded(3)
	all := files(rnd, 12)
	kernel := noise(rnd, 500_000)
	old := publish(t, image(all...), slices.Concat([]byte("version 1"), kernel))
	changed := func(i int, data []byte) []byte {
		return image(slices.Concat(all[:i], [][]byte{data}, all[i+1:])...)
	}
	big := program(rnd, 2<<20)
	withBig := publish(t, image(append(slices.Clone(all), big)...), kernel)
	for _, c := range []struct {
		name      string
		from      published
		root, uki []byte
		limit     int64
	}{
		{"version string", old, image(all...), slices.Concat([]byte("version 10"), kernel), 24 << 10},
		{"a file first", old, image(slices.Concat([][]byte{program(rnd, 5000)}, all)...), kernel, 16 << 10},
		{"files in another order", old, image(slices.Concat(all[6:], all[:6])...), kernel, 4 << 10},
		{"a byte of a file", old, changed(4, slices.Concat(all[4][:50], []byte("x"), all[4][51:])), kernel, 8 << 10},
		{"bytes inserted", withBig, image(append(slices.Clone(all), slices.Concat(big[:1<<20], []byte("some more bytes"), big[1<<20:]))...), kernel, 8 << 10},
	} {
		r := publish(t, c.root, c.uki)
		got := newBox(c.from).mustTake(t, r)
		if got.fetched > c.limit {
			t.Errorf("%s: fetched %d bytes of %d, want at most %d", c.name, got.fetched, r.stats.Full, c.limit)
		}
	}
}

// An initramfs holds files of the root, between other things and without
// their padding.
func TestFilesOfTheRootAreFoundInTheUKI(t *testing.T) {
	rnd := seeded(4)
	all := files(rnd, 10)
	uki := []byte("MZ")
	for _, f := range all {
		uki = append(append(uki, "070701 a header"...), f...)
	}
	r := publish(t, image(all...), uki)
	alone := publish(t, image(all...), []byte("MZ"))
	if more := r.stats.Full - alone.stats.Full; more > int64(len(uki)/10) {
		t.Errorf("a UKI of %d bytes that are in the root adds %d bytes to a full download", len(uki), more)
	}
	newBox(published{}).mustTake(t, r)
	newBox(alone).mustTake(t, r)
}

func TestEqualContentsGiveEqualBytes(t *testing.T) {
	rnd := seeded(5)
	root, uki := image(files(rnd, 6)...), program(rnd, 50_000)
	a, b := publish(t, root, uki), publish(t, root, uki)
	if !bytes.Equal(a.index, b.index) || !bytes.Equal(a.pack, b.pack) {
		t.Error("two packs of one release differ")
	}
}

// edit changes data as nobody would: pieces are moved, dropped, doubled,
// overwritten, zeroed.
func edit(rnd *rand.Rand, data []byte) []byte {
	for range 1 + rnd.IntN(12) {
		if len(data) == 0 {
			return program(rnd, rnd.IntN(5000))
		}
		from := rnd.IntN(len(data))
		to := min(len(data), from+1<<rnd.IntN(18))
		cut := slices.Clone(data[from:to])
		switch rnd.IntN(6) {
		case 0:
			data = slices.Delete(data, from, to)
		case 1:
			data = slices.Insert(data, rnd.IntN(len(data)+1), cut...)
		case 2:
			copy(data[from:to], program(rnd, to-from))
		case 3:
			clear(data[from:to])
		case 4:
			data = slices.Insert(data, from, noise(rnd, rnd.IntN(3000))...)
		case 5:
			data[from] ^= 1 << rnd.IntN(8)
		}
	}
	return data
}

func TestAnyChangeIsPutTogetherToTheByte(t *testing.T) {
	rounds := uint64(40)
	if testing.Short() {
		rounds = 10
	}
	for seed := range rounds {
		rnd := seeded(100 + seed)
		oldRoot, oldUKI := image(files(rnd, 1+rnd.IntN(5))...), program(rnd, rnd.IntN(200_000))
		old := publish(t, oldRoot, oldUKI)
		r := publish(t, edit(rnd, slices.Clone(oldRoot)), edit(rnd, slices.Clone(oldUKI)))
		b := newBox(old)
		// The slot is not empty: it holds whatever was there before.
		b.target[delta.Root].data = edit(rnd, slices.Clone(oldRoot))[:0:0]
		got, err := b.take(t, r)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		b.holds(t, r)
		if got.fetched > r.stats.Full+int64(len(r.pack))/10+4096 {
			t.Errorf("seed %d: fetched %d bytes, a full download is %d", seed, got.fetched, r.stats.Full)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestEmptyObjects(t *testing.T) {
	r := publish(t, nil, []byte{0})
	newBox(published{}).mustTake(t, r)
	newBox(r).mustTake(t, publish(t, []byte("x"), nil))
}

func Example() {
	var index, pack bytes.Buffer
	root := bytes.Repeat([]byte("a root file system "), 10_000)
	_, err := delta.Write(ctx, &index, &pack, delta.Content{Name: delta.Root, Data: bytes.NewReader(root), Size: int64(len(root))})
	if err != nil {
		panic(err)
	}
	x, err := delta.ReadIndex(index.Bytes())
	if err != nil {
		panic(err)
	}
	slot := &memory{}
	p := &delta.Patcher{
		Index: x, Pack: delta.FilePack(bytes.NewReader(pack.Bytes())),
		Have:   []delta.Source{{Name: delta.Root, Content: bytes.NewReader(root), Size: int64(len(root))}},
		Target: map[string]delta.File{delta.Root: slot},
	}
	plan, err := p.Plan(ctx)
	if err != nil {
		panic(err)
	}
	if err := p.Apply(ctx, plan, nil); err != nil {
		panic(err)
	}
	fmt.Println(plan.Fetch, "bytes fetched, equal:", bytes.Equal(slot.data, root))
	// Output: 0 bytes fetched, equal: true
}
