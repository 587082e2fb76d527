package varstore

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var global = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")

// flash is an empty store with room for size bytes of variables, and a byte
// behind it that is none of its business.
func flash(size int) []byte {
	b := bytes.Repeat([]byte{erased}, 72+storeHeader+size+1)
	clear(b[:72+storeHeader])
	copy(b[16:], volumeType[:])
	copy(b[volumeSignature:], "_FVH")
	le.PutUint16(b[volumeHeader:], 72)
	copy(b[72:], storeType[:])
	le.PutUint32(b[72+storeSize:], uint32(storeHeader+size))
	b[72+storeFormat], b[72+storeFormat+1] = 0x5a, 0xfe
	b[len(b)-1] = 0x42
	return b
}

func TestPutAndRead(t *testing.T) {
	lang := Variable{Name: "Lang", Vendor: global, Attributes: 7, Data: []byte("eng")}
	first, err := Put(flash(400), lang, Variable{Name: "PK", Vendor: global, Attributes: 0x27, Data: []byte("old")})
	if err != nil {
		t.Fatal(err)
	}
	pk := Variable{Name: "PK", Vendor: global, Attributes: 0x27, Time: [16]byte{0xea, 7, 1}, Data: []byte("new one")}
	other := Variable{Name: "PK", Vendor: volumeType, Attributes: 3, Data: []byte{1}}
	second, err := Put(first, pk, other)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(second)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Variable{lang, pk, other}, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if len(second) != len(first) || second[len(second)-1] != 0x42 || !bytes.Equal(second[:72+storeHeader], first[:72+storeHeader]) {
		t.Error("bytes outside of the store were changed")
	}
	if again, err := Read(first); err != nil || len(again) != 2 || string(again[1].Data) != "old" {
		t.Errorf("the flash file given was changed: %+v, %v", again, err)
	}
}

// TestDeletedVariables reads what the firmware marked as deleted: nothing.
func TestDeletedVariables(t *testing.T) {
	b, err := Put(flash(400), Variable{Name: "A", Vendor: global}, Variable{Name: "B", Vendor: global})
	if err != nil {
		t.Fatal(err)
	}
	b[72+storeHeader+2] = 0x3c
	got, err := Read(b)
	if err != nil || len(got) != 1 || got[0].Name != "B" {
		t.Errorf("got %+v, %v; want B alone", got, err)
	}
}

func TestRefuses(t *testing.T) {
	if _, err := Put(flash(400), Variable{Name: "db", Data: make([]byte, 400)}); err == nil {
		t.Error("more than fits: got no error")
	}
	whole, err := Put(flash(400), Variable{Name: "A", Vendor: global, Data: []byte("data")})
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty file":  func([]byte) []byte { return nil },
		"volume type": func(b []byte) []byte { b[16]++; return b },
		"store type":  func(b []byte) []byte { b[72]++; return b },
		"unhealthy":   func(b []byte) []byte { b[72+storeFormat+1] = 0; return b },
		"cut short":   func(b []byte) []byte { return b[:200] },
		"data size":   func(b []byte) []byte { le.PutUint32(b[72+storeHeader+40:], 1<<31); return b },
		"name size":   func(b []byte) []byte { le.PutUint32(b[72+storeHeader+36:], 1<<31); return b },
	} {
		if vars, err := Read(spoil(bytes.Clone(whole))); err == nil {
			t.Errorf("%s: got %+v, want an error", name, vars)
		}
	}
}

func FuzzRead(f *testing.F) {
	whole, err := Put(flash(400), Variable{Name: "A", Vendor: global, Data: []byte("data")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		vars, err := Read(b)
		if err != nil {
			return
		}
		again, err := Put(b, vars...)
		if err != nil {
			return // names that are no text may become longer
		}
		if got, err := Read(again); err != nil || len(got) > len(vars) {
			t.Errorf("read %d variables, wrote them, read %d, %v", len(vars), len(got), err)
		}
	})
}
