package flash

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/layout"
)

const mib = layout.MiB

func TestMerge(t *testing.T) {
	got := Merge([]Range{{20 * Block, 1}, {5, 10}, {Block, Block}, {Block + 7, 3}, {2*Block - 1, 2}, {99 * Block, Block}}, 99*Block+512)
	want := []Range{{0, 3 * Block}, {20 * Block, Block}, {99 * Block, 512}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
}

// What the first boot looks at lies at places that follow from the layout;
// this spells them out.
func TestStale(t *testing.T) {
	parts, err := layout.Partitions("amd64")
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 30
	stale := Stale(parts, 1025*mib, size)
	covers := func(off, n int64) bool {
		for _, r := range stale {
			if off >= r.Off && off+n <= r.End() {
				return true
			}
		}
		return false
	}
	for what, at := range map[string]int64{
		"state":                     (1 + 256 + 768 + 768) * mib,
		"data":                      (1 + 256 + 768 + 768 + 256) * mib,
		"state without second slot": (1 + 256 + 768) * mib,
		"data without second slot":  (1 + 256 + 768 + 256) * mib,
	} {
		if !covers(at, 64<<10) || !covers(at+128*mib, 4096) {
			t.Errorf("%s at %d MiB: its superblocks are left", what, at/mib)
		}
	}
	if !covers(size-33*512, 33*512) {
		t.Error("the backup partition table is left")
	}
	for _, r := range stale {
		if r.Off < 1025*mib || r.End() > size {
			t.Errorf("%v lies in the image or beyond the disk", r)
		}
	}
}

// memory is a disk that counts, and may fail or lie.
type memory struct {
	b      []byte
	writes []Range
	synced int // writes before the last sync
	fail   int // write that fails, from 1
	rot    int64
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(m.b).ReadAt(p, off)
	if i := m.rot - off; m.rot > 0 && i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	return n, err
}

var errBroken = errors.New("broken")

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.writes = append(m.writes, Range{off, int64(len(p))})
	if len(m.writes) == m.fail {
		return 0, errBroken
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) Sync() error { m.synced = len(m.writes); return nil }

func noise(n int64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = io.ReadFull(r, b)
	return b
}

func job(t *testing.T) (*Job, *memory) {
	t.Helper()
	img := noise(40 * mib)
	d := &memory{b: bytes.Repeat([]byte{0xee}, int(64*mib))}
	return &Job{
		Source: bytes.NewReader(img), Ranges: []Range{{0, mib + 8192}, {8 * mib, 17*mib + 4096}},
		Erase: []Range{{63 * mib, mib}},
	}, d
}

func TestRun(t *testing.T) {
	j, d := job(t)
	var steps []string
	j.Progress = func(p Progress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
	}
	state, err := j.Run(t.Context(), d)
	if err != nil || state != Whole {
		t.Fatalf("got %q, %v", state, err)
	}
	want := bytes.Repeat([]byte{0xee}, len(d.b))
	for _, r := range j.Ranges {
		_, _ = j.Source.ReadAt(want[r.Off:r.End()], r.Off)
	}
	clear(want[63*mib:])
	if !bytes.Equal(d.b, want) {
		t.Error("the disk holds something else than image, zeros, and what it held where neither is")
	}
	if first, last := d.writes[0], d.writes[len(d.writes)-1]; first != (Range{0, mib}) || last != (Range{0, mib}) {
		t.Errorf("first and last write are %v and %v, want the head", first, last)
	}
	if d.synced != len(d.writes) {
		t.Error("the last write is not synced")
	}
	if diff := cmp.Diff([]string{"erase", "write", "verify", "finish"}, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// Whatever fails and whenever: a disk that is not whole has no head.
func TestInterrupted(t *testing.T) {
	_, whole := job(t)
	j, _ := job(t)
	if _, err := j.Run(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	for fail := 1; fail < len(whole.writes); fail++ {
		j, d := job(t)
		d.fail = fail
		state, err := j.Run(t.Context(), d)
		if !errors.Is(err, errBroken) || state != Unfinished {
			t.Fatalf("write %d fails: got %q, %v", fail, state, err)
		}
		if fail > 1 && !bytes.Equal(d.b[:mib], make([]byte, mib)) {
			t.Fatalf("write %d fails: the disk has a head", fail)
		}
	}
	for after := range 20 {
		j, d := job(t)
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		j.Progress = func(Progress) {
			if n++; n > after {
				cancel()
			}
		}
		state, err := j.Run(ctx, d)
		if !errors.Is(err, context.Canceled) || state != Unfinished || !bytes.Equal(d.b[:mib], make([]byte, mib)) {
			t.Fatalf("interrupted after %d chunks: got %q, %v", after, state, err)
		}
		if d.synced != len(d.writes) {
			t.Fatalf("interrupted after %d chunks: writes are left in the cache", after)
		}
	}
}

func TestDiskThatLies(t *testing.T) {
	for at, want := range map[int64]State{9*mib + 5: Unfinished, 100: Unverified} {
		j, d := job(t)
		d.rot = at
		if state, err := j.Run(t.Context(), d); !errors.Is(err, ErrDiffers) || state != want {
			t.Errorf("byte %d rots: got %q, %v; want %q", at, state, err, want)
		}
	}
}

func TestFinish(t *testing.T) {
	j, d := job(t)
	j.Finish = func(Disk) error { return errBroken }
	if state, err := j.Run(t.Context(), d); !errors.Is(err, errBroken) || state != Unfinished {
		t.Errorf("got %q, %v", state, err)
	}
	if !bytes.Equal(d.b[:mib], make([]byte, mib)) {
		t.Error("the head was taken from the source")
	}
}
