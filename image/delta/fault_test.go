package delta_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

// pair is an old release and a new one of which a part is held.
func pair(t testing.TB) (old, new published) {
	rnd := seeded(20)
	all := files(rnd, 8)
	kernel := noise(rnd, 200_000)
	changed := slices.Clone(all)
	for i := range 3 {
		f := slices.Clone(all[i])
		for at := 5000; at < len(f); at += 40_000 {
			f[at] ^= 1
		}
		changed[i] = f
	}
	changed = append(changed, program(rnd, 60_000))
	return publish(t, image(all...), kernel), publish(t, image(changed...), slices.Concat([]byte("new"), kernel))
}

// Every way a range may be answered wrongly ends on the release, by a full
// download.
func TestWrongRangesFallBackToTheWholePack(t *testing.T) {
	old, r := pair(t)
	honest := newBox(old).mustTake(t, r)
	if honest.plan.Whole {
		t.Fatal("the pair is no test: it takes a full download anyway")
	}
	part := func(off, n int64) []byte { return bytes.Clone(r.pack[off : off+n]) }
	for name, answer := range map[string]func(off, n int64) ([]byte, error){
		"the server ignores ranges": func(off, n int64) ([]byte, error) { return nil, delta.ErrNoRanges },
		"garbage":                   func(off, n int64) ([]byte, error) { return bytes.Repeat([]byte("<html>"), int(n)), nil },
		"too short":                 func(off, n int64) ([]byte, error) { return part(off, n)[:n/2], nil },
		"another range":             func(off, n int64) ([]byte, error) { return part(off-1, n), nil },
		"a bit flipped": func(off, n int64) ([]byte, error) {
			p := part(off, n)
			p[n/2] ^= 4
			return p, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(old)
			b.pack = packFunc(func(off, n int64) (io.ReadCloser, error) {
				if off == 0 {
					return reader(r.pack), nil
				}
				data, err := answer(off, n)
				return reader(data), err
			})
			b.mustTake(t, r)
		})
	}
}

// One wrong piece costs its segment, or the pack, never the release.
func TestEveryPartOfThePackMayBeWrongOnce(t *testing.T) {
	old, r := pair(t)
	for at := 0; at < len(r.pack); at += 1 + len(r.pack)/150 {
		b := newBox(old)
		bad := true
		b.pack = packFunc(func(off, n int64) (io.ReadCloser, error) {
			data := bytes.Clone(r.pack[off : off+n])
			if bad && int64(at) >= off && int64(at) < off+n {
				data[int64(at)-off] ^= 0x40
				bad = false
			}
			return reader(data), nil
		})
		if _, err := b.take(t, r); err != nil {
			t.Errorf("byte %d of the pack wrong once: %v", at, err)
		}
		b.holds(t, r)
	}
}

func TestAWrongPackIsRefused(t *testing.T) {
	old, r := pair(t)
	_, other := pair(t)
	for i := 20; i < len(other.pack); i += 1000 {
		other.pack[i] ^= 1
	}
	for name, bad := range map[string][]byte{
		"altered":   other.pack,
		"truncated": r.pack[:r.stats.Full/3],
		"empty":     nil,
	} {
		b := newBox(old)
		b.pack = packFunc(func(off, n int64) (io.ReadCloser, error) {
			off = min(off, int64(len(bad)))
			return reader(bad[off:min(off+n, int64(len(bad)))]), nil
		})
		_, err := b.take(t, r)
		var content *delta.ContentError
		if !errors.As(err, &content) {
			t.Errorf("%s: got %v, want a *ContentError", name, err)
		}
		// What was written is right nevertheless.
		got := b.target[delta.Root].data
		if want := r.contents[delta.Root]; !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("%s: wrong content was written", name)
		}
	}
}

var errBroken = errors.New("the line broke")

// faulty fails once so many bytes were read or written.
type faulty struct {
	left int64
	delta.File
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	if f.left -= int64(len(p)); f.left < 0 {
		n := max(0, int64(len(p))+f.left)
		f.File.WriteAt(p[:n], off) // torn
		return int(n), errBroken
	}
	return f.File.WriteAt(p, off)
}

// breaking is a body that breaks off.
type breaking struct {
	r    io.Reader
	left *int64
}

func (b breaking) Read(p []byte) (int, error) {
	if *b.left <= 0 {
		return 0, errBroken
	}
	n, err := b.r.Read(p[:min(int64(len(p)), *b.left)])
	*b.left -= int64(n)
	return n, err
}
func (b breaking) Close() error { return nil }

// A download that breaks goes on where it was, from targets alone.
func TestABrokenDownloadIsResumed(t *testing.T) {
	_, r := pair(t)
	once := newBox(published{}).mustTake(t, r).fetched
	b := newBox(published{})
	var sum int64
	for try := 1; ; try++ {
		left := once/7 + 90_000
		budget := left
		b.pack = packFunc(func(off, n int64) (io.ReadCloser, error) {
			return breaking{bytes.NewReader(r.pack[off : off+n]), &left}, nil
		})
		_, err := b.take(t, r)
		sum += budget - left
		if err == nil {
			if try < 3 {
				t.Errorf("done at try %d, the line never broke", try)
			}
			break
		}
		if !errors.Is(err, errBroken) || try > 20 {
			t.Fatalf("try %d: %v", try, err)
		}
	}
	b.holds(t, r)
	// Only a segment that was cut off is fetched again.
	if sum > once+once/2 {
		t.Errorf("%d bytes in all, %d without interruption", sum, once)
	}
}

// A write that fails, torn or not, leaves what the next run puts right.
func TestAnInterruptedWriteIsResumed(t *testing.T) {
	old, r := pair(t)
	size := int64(len(r.contents[delta.Root]))
	for cut := int64(0); cut < size; cut += size/40 + 13 {
		b := newBox(old)
		index, err := delta.ReadIndex(r.index)
		if err != nil {
			t.Fatal(err)
		}
		p := &delta.Patcher{Index: index, Pack: delta.FilePack(bytes.NewReader(r.pack)), Have: b.have, Target: map[string]delta.File{
			delta.Root: &faulty{cut, b.target[delta.Root]}, delta.UKI: b.target[delta.UKI],
		}}
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(t.Context(), plan, nil); !errors.Is(err, errBroken) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		b.mustTake(t, r)
	}
}

// What was held when the plan was made may be gone when it is carried out.
func TestWhatIsHeldMayRot(t *testing.T) {
	old, r := pair(t)
	held := bytes.Clone(old.contents[delta.Root])
	b := newBox(old)
	b.have[0].Content = bytes.NewReader(held)
	index, err := delta.ReadIndex(r.index)
	if err != nil {
		t.Fatal(err)
	}
	p := &delta.Patcher{Index: index, Pack: delta.FilePack(bytes.NewReader(r.pack)), Have: b.have,
		Target: map[string]delta.File{delta.Root: b.target[delta.Root], delta.UKI: b.target[delta.UKI]}}
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(held); i += 100_000 {
		held[i] ^= 1
	}
	if err := p.Apply(t.Context(), plan, nil); err != nil {
		t.Fatal(err)
	}
	b.holds(t, r)
}
