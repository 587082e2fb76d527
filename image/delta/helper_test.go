package delta_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

// memory is a target. It ends where it was last written, as a new file does.
type memory struct{ data []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(m.data) {
		m.data = append(m.data, make([]byte, n-len(m.data))...)
	}
	return copy(m.data[off:], p), nil
}

// published is a release as a server has it.
type published struct {
	contents    map[string][]byte
	index, pack []byte
	stats       delta.Stats
}

func publish(t testing.TB, root, uki []byte) published {
	t.Helper()
	var index, pack bytes.Buffer
	stats, err := delta.Write(context.Background(), &index, &pack, content(delta.Root, root), content(delta.UKI, uki))
	if err != nil {
		t.Fatal(err)
	}
	return published{map[string][]byte{delta.Root: root, delta.UKI: uki}, index.Bytes(), pack.Bytes(), stats}
}

func content(name string, data []byte) delta.Content {
	return delta.Content{Name: name, Data: bytes.NewReader(data), Size: int64(len(data))}
}

// box is what takes a release.
type box struct {
	have   []delta.Source
	target map[string]*memory
	pack   delta.Pack // if not the release's own
	patch  *delta.PatchFile
}

// newBox runs the release given; a box that holds nothing runs published{}.
func newBox(runs published) *box {
	b := &box{target: map[string]*memory{delta.Root: {}, delta.UKI: {}}}
	for _, name := range []string{delta.Root, delta.UKI} {
		if data := runs.contents[name]; data != nil {
			b.have = append(b.have, delta.Source{Name: name, Content: bytes.NewReader(data), Size: int64(len(data))})
		}
	}
	return b
}

type result struct {
	plan    *delta.Plan
	fetched int64
}

// take plans and applies a release once.
func (b *box) take(t testing.TB, r published) (result, error) {
	t.Helper()
	index, err := delta.ReadIndex(r.index)
	if err != nil {
		t.Fatal(err)
	}
	p := &delta.Patcher{Index: index, Pack: b.pack, Have: b.have, Patch: b.patch, Target: map[string]delta.File{}}
	if p.Pack == nil {
		p.Pack = delta.FilePack(bytes.NewReader(r.pack))
	}
	for name, m := range b.target {
		p.Target[name] = m
	}
	plan, err := p.Plan(t.Context())
	if err != nil {
		return result{fetched: p.Fetched()}, err
	}
	err = p.Apply(t.Context(), plan, nil)
	return result{plan, p.Fetched()}, err
}

// holds fails the test unless the box holds the release to the byte.
func (b *box) holds(t testing.TB, r published) {
	t.Helper()
	for name, want := range r.contents {
		if !bytes.Equal(b.target[name].data, want) {
			t.Errorf("%s was not put together as it was published", name)
		}
	}
}

// mustTake takes a release and checks it.
func (b *box) mustTake(t testing.TB, r published) result {
	t.Helper()
	got, err := b.take(t, r)
	if err != nil {
		t.Fatal(err)
	}
	b.holds(t, r)
	return got
}

// program makes content that looks like a program: it repeats itself, so that
// it compresses to about half.
func program(rnd *rand.Rand, size int) []byte {
	var words [256][8]byte
	for i := range words {
		for j := range words[i] {
			words[i][j] = byte(rnd.Uint32())
		}
	}
	var b []byte
	for len(b) < size {
		b = append(b, words[rnd.IntN(256)][:]...)
		b = append(b, byte(rnd.Uint32()), byte(rnd.Uint32()))
	}
	return b[:size]
}

func noise(rnd *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// image lays files out as a root has them, each on a block of its own.
func image(files ...[]byte) []byte {
	var b []byte
	for _, f := range files {
		b = append(b, f...)
		b = append(b, make([]byte, -len(b)&4095)...)
	}
	return b
}

// files makes n programs of up to 300 KiB.
func files(rnd *rand.Rand, n int) [][]byte {
	var all [][]byte
	for range n {
		all = append(all, program(rnd, 100+rnd.IntN(300<<10)))
	}
	return all
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// packFunc is a Pack.
type packFunc func(off, n int64) (io.ReadCloser, error)

func (f packFunc) Range(_ context.Context, off, n int64) (io.ReadCloser, error) { return f(off, n) }

var ctx = context.Background()

func reader(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
