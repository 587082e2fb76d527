package delta

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestEdits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(50, 0))
	for range 3000 {
		like := make([]byte, rnd.IntN(300))
		for i := range like {
			like[i] = byte(rnd.IntN(4))
		}
		data := bytes.Clone(like)
		for range rnd.IntN(8) {
			if len(data) == 0 {
				break
			}
			at := rnd.IntN(len(data))
			for i := at; i < min(len(data), at+rnd.IntN(40)); i++ {
				data[i] += byte(rnd.IntN(3))
			}
		}
		d := &decoder{data: appendEdits(nil, like, data)}
		got := bytes.Clone(like)
		if d.edit(got); d.err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%x became %x, want %x: %v", like, got, data, d.err)
		}
	}
}

// FuzzEdits: whatever the edits, nothing is written beyond the segment.
func FuzzEdits(f *testing.F) {
	f.Add([]byte{0, 2, 5, 1, 7}, 9)
	f.Add([]byte{246, 1, 2, 3, 1, 7}, 108) // an edit that begins behind the end
	f.Add([]byte{247, 1, 2, 3, 1, 7}, 108)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size < 0 || size > 1<<16 {
			return
		}
		d := &decoder{data: data}
		d.edit(make([]byte, size))
	})
}

// TestAlign: what was moved, with numbers changed in it, is found where it was.
func TestAlign(t *testing.T) {
	rnd := rand.New(rand.NewPCG(51, 0))
	old := make([]byte, 200_000)
	for i := range old {
		old[i] = byte(rnd.Uint32())
	}
	fresh := make([]byte, 999)
	var data []byte
	for _, part := range [][]byte{old[:50_000], fresh, old[120_001:170_000], old[60_000:70_003]} {
		data = append(data, part...)
	}
	for at := 30; at < len(data); at += 100 {
		data[at]++
	}
	runs := newAligner(old).align(data, 0)
	size, right, at := 0, 0, 0
	for _, r := range runs {
		for i := range r.size {
			if from := r.from + i; from >= 0 && from < len(old) && old[from] == data[at+i] {
				right++
			}
		}
		size, at = size+r.size, at+r.size
	}
	if size != len(data) {
		t.Errorf("runs are of %d bytes, want %d", size, len(data))
	}
	if want := (len(data) - len(fresh)) * 98 / 100; right < want || len(runs) > 5 {
		t.Errorf("%d bytes are like in %d runs, want %d in 4 or 5", right, len(runs), want)
	}
}

// TestASegmentTwice: a patch of nothing but frames of the same segment would
// take some thirty times its size in memory.
func TestASegmentTwice(t *testing.T) {
	x := &Index{Objects: []Object{{Name: Root, Size: 1000}}, parts: []part{{size: 600}, {size: 400}}}
	head := append(append(patchMagic[:], patchVersion), x.sum[:]...)
	for frames, good := range map[string]bool{
		"\x01\x01\x01z\x01\x02\x01z": true, "\x02\x01\x01\x01z": true,
		"\x01\x01\x01z\x01\x01\x01z": false, "\x02\x01\x01\x01z\x01\x02\x01z": false,
	} {
		if _, err := ReadPatch(append(bytes.Clone(head), frames...), x, nil); (err == nil) != good {
			t.Errorf("frames %x: got %v, want it read: %t", frames, err, good)
		}
	}
}

// FuzzPatchContent: whatever a frame holds, a part is made in its own bytes or
// there is an error.
func FuzzPatchContent(f *testing.F) {
	x := &Index{Objects: []Object{{Name: Root, Size: 1000}}, parts: []part{{size: 600}, {size: 400}}}
	have := []Source{{Name: Root, Content: bytes.NewReader(make([]byte, 1000)), Size: 1000}}
	z, err := newDecoder()
	if err != nil {
		f.Fatal(err)
	}
	e := newEncoder(zstd.SpeedFastest, limitSegment)
	f.Add([]byte{8, 1, 1, 0, 0xd8, 4, 4, 2, 4, 1, 0, 0x90, 3})
	f.Add([]byte("\b0\x00\xd8\x040000\x00")) // more runs than the part has bytes
	f.Fuzz(func(t *testing.T, content []byte) {
		data := append(append(patchMagic[:], patchVersion), x.sum[:]...)
		packed := e.EncodeAll(content, nil)
		data = append(data, 2, 1, 1)
		data = append(binary.AppendUvarint(data, uint64(len(packed))), packed...)
		p, err := ReadPatch(data, x, have)
		if err != nil {
			t.Fatal(err)
		}
		for n, part := range x.parts {
			buf := make([]byte, part.size, part.size+8)
			_, _ = p.part(z, n, buf, func(at place, b []byte) error { return readAt(have[at.source].Content, b, at.off) })
			if !allZero(buf[part.size : part.size+8]) {
				t.Error("bytes behind the part were written")
			}
		}
	})
}
