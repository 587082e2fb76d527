package layout_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/layout"
)

func TestBootRecord(t *testing.T) {
	r := layout.BootRecord{Sequence: 7, Good: 1, Trial: 0, Left: 2, Done: 1}
	b := r.Encode()
	got, err := layout.DecodeBootRecord(b)
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	// Written down once, so that boxes in the field go on to read it.
	const want = "WBRC\x01\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00"
	if string(b[:28]) != want || len(b) != layout.BootRecordSize {
		t.Errorf("got %q, want %q", b[:28], want)
	}
	for i := range 32 {
		b[i] ^= 1
		if got, err := layout.DecodeBootRecord(b); err == nil {
			t.Errorf("byte %d altered: got %+v, want an error", i, got)
		}
		b[i] ^= 1
	}
}

func TestNewestBootRecord(t *testing.T) {
	old, fresh := layout.BootRecord{Sequence: 1, Trial: layout.NoTrial}, layout.BootRecord{Sequence: 2, Good: 1, Trial: layout.NoTrial}
	torn := fresh.Encode()
	torn[12] = 0
	for _, c := range []struct {
		name string
		a, b []byte
		want layout.BootRecord
		at   int
	}{
		{"second is newer", old.Encode(), fresh.Encode(), fresh, 1},
		{"first is newer", fresh.Encode(), old.Encode(), fresh, 0},
		{"newer one is torn", torn, old.Encode(), old, 1},
		{"both are", torn, nil, layout.BootRecord{}, -1},
	} {
		got, at, err := layout.NewestBootRecord([2][]byte{c.a, c.b})
		if got != c.want || at != c.at || (err == nil) != (at >= 0) {
			t.Errorf("%s: got %+v at %d, %v, want %+v at %d", c.name, got, at, err, c.want, c.at)
		}
	}
}

func FuzzDecodeBootRecord(f *testing.F) {
	f.Add(layout.BootRecord{Sequence: 7, Good: 1}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := layout.DecodeBootRecord(b)
		if err == nil && string(r.Encode()[:32]) != string(b[:32]) {
			t.Errorf("%x is read as %+v, which is written otherwise", b[:32], r)
		}
	})
}
