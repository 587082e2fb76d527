package delta_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/delta"
)

func FuzzReadIndex(f *testing.F) {
	_, r := pair(f)
	f.Add(r.index)
	f.Add(r.index[:len(r.index)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := delta.ReadIndex(data)
		if err != nil {
			return
		}
		again, err := delta.ReadIndex(x.Encode())
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if !bytes.Equal(again.Encode(), x.Encode()) || !cmp.Equal(again.Full(), x.Full()) {
			t.Error("an index changes when it is written again")
		}
	})
}

// Whatever a server has for a pack, the box gets the release or says what is
// wrong, and never writes anything else.
func FuzzPack(f *testing.F) {
	old, r := pair(f)
	f.Add(r.pack, 0)
	f.Add(r.pack[:len(r.pack)/2], 100)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		pack := bytes.Clone(r.pack)
		if at >= 0 && at < len(pack) {
			copy(pack[at:], data)
		}
		b := newBox(old)
		b.pack = delta.FilePack(bytes.NewReader(pack))
		_, err := b.take(t, r)
		var content *delta.ContentError
		if err != nil && !errors.As(err, &content) {
			t.Fatal(err)
		}
		for name, m := range b.target {
			if want := r.contents[name]; !bytes.Equal(m.data, want[:len(m.data)]) {
				t.Errorf("wrong content was written to %s", name)
			}
		}
	})
}

func TestIndexIsRefused(t *testing.T) {
	_, r := pair(t)
	for n := range len(r.index) {
		if _, err := delta.ReadIndex(r.index[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were read as an index", n, len(r.index))
		}
	}
	if _, err := delta.ReadIndex(append(bytes.Clone(r.index), 0)); err == nil {
		t.Error("an index with something behind it was read")
	}
	other := bytes.Clone(r.index)
	other[4]++
	if _, err := delta.ReadIndex(other); err == nil {
		t.Error("an index of another version was read")
	}
}
