package decode

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/site"
)

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		spec Spec
		raw  string
		want any
	}{
		{Spec{Type: "bool"}, "01", true},
		{Spec{Type: "int16"}, "fffe", int64(-2)},
		{Spec{Type: "uint16", Order: "BADC"}, "3412", uint64(0x1234)},
		{Spec{Type: "uint16", Order: "DCBA"}, "3412", uint64(0x1234)},
		{Spec{Type: "uint16", Order: "CDAB"}, "1234", uint64(0x1234)},
		{Spec{Type: "uint32"}, "12345678", uint64(0x12345678)},
		{Spec{Type: "uint32", Order: "DCBA"}, "78563412", uint64(0x12345678)},
		{Spec{Type: "uint32", Order: "BADC"}, "34127856", uint64(0x12345678)},
		{Spec{Type: "uint32", Order: "CDAB"}, "56781234", uint64(0x12345678)},
		{Spec{Type: "uint64", Order: "CDAB"}, "7788556633441122", uint64(0x1122334455667788)},
		{Spec{Type: "int64"}, "ffffffffffffffff", int64(-1)},
		{Spec{Type: "float32"}, "41ac0000", 21.5},
		{Spec{Type: "float64", Order: "DCBA"}, "0000000000803540", 21.5},
		{Spec{Type: "int16", Scale: 0.5, Offset: -40}, "0064", 10.0},
		{Spec{Type: "bcd16"}, "1234", uint64(1234)},
		{Spec{Type: "bcd32", Order: "CDAB"}, "56781234", uint64(12345678)},
		{Spec{Type: "string", Length: 4}, "61620000", "ab"},
		{Spec{Type: "string", Length: 4, Order: "BADC"}, "62610020", "ab \x00"[:2]},
		{Spec{Type: "bytes", Length: 2}, "0001", []byte{0, 1}},
	} {
		c, err := New(tt.spec)
		if err != nil {
			t.Errorf("%+v: %v", tt.spec, err)
			continue
		}
		raw, _ := hex.DecodeString(tt.raw)
		got, err := c.Decode(raw)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%+v of %s (%v, -want +got):\n%s", tt.spec, tt.raw, err, diff)
		}
		if s := tt.spec.Type; s == "string" {
			continue // what was trimmed does not come back
		}
		if back, err := c.Encode(got); hex.EncodeToString(back) != tt.raw {
			t.Errorf("%+v: Encode(%v) = %x (%v), want %s", tt.spec, got, back, err, tt.raw)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		spec  Spec
		value any
	}{
		{Spec{Type: "uint16"}, json.Number("65536")},
		{Spec{Type: "uint16"}, json.Number("-1")},
		{Spec{Type: "int16"}, json.Number("1.5")},
		{Spec{Type: "int16"}, true},
		{Spec{Type: "int16"}, "12abc"},
		{Spec{Type: "bool"}, json.Number("1")},
		{Spec{Type: "float32"}, json.Number("1e39")},
		{Spec{Type: "bcd16"}, int64(10000)},
		{Spec{Type: "string", Length: 2}, "abc"},
		{Spec{Type: "uint64"}, json.Number("18446744073709551616")},
		{Spec{Type: "int32"}, json.Number("1e999999999")},
		{Spec{Type: "int32"}, nil},
	} {
		c, err := New(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := c.Encode(tt.value); err == nil {
			t.Errorf("%s: Encode(%v) = %x, want an error", tt.spec.Type, tt.value, b)
		}
	}
}

func TestEncodeExact(t *testing.T) {
	for _, tt := range []struct {
		spec  Spec
		value any
		want  string
	}{
		{Spec{Type: "uint64"}, json.Number("18446744073709551615"), "ffffffffffffffff"},
		{Spec{Type: "int16", Scale: 0.1}, json.Number("21.5"), "00d7"},
		{Spec{Type: "int16", Scale: 0.1}, json.Number("-21.5"), "ff29"},
		{Spec{Type: "uint16"}, json.Number("1e3"), "03e8"},
	} {
		c, err := New(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := c.Encode(tt.value); hex.EncodeToString(b) != tt.want {
			t.Errorf("%s: Encode(%v) = %x (%v), want %s", tt.spec.Type, tt.value, b, err, tt.want)
		}
	}
}

func TestBadSpecs(t *testing.T) {
	for _, s := range []Spec{
		{}, {Type: "int24"}, {Type: "int16", Order: "ABDC"}, {Type: "string"}, {Type: "string", Length: 1 << 20},
		{Type: "string", Length: 4, Order: "CDAB"}, {Type: "bool", Scale: 2}, {Type: "string", Length: 2, Offset: 1},
	} {
		if _, err := New(s); err == nil {
			t.Errorf("New(%+v) accepted it", s)
		}
	}
}

// The words of profiles are those of this package.
func TestWords(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(sizes)), slices.Sorted(slices.Values(site.ValueTypes()))); diff != "" {
		t.Errorf("types (-here +profile):\n%s", diff)
	}
	if diff := cmp.Diff(orders, site.ByteOrders()); diff != "" {
		t.Errorf("orders (-here +profile):\n%s", diff)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("uint32", "CDAB", []byte{1, 2, 3, 4}, 0.5)
	f.Add("bcd16", "", []byte{0x99, 0x12}, 1.0)
	f.Fuzz(func(t *testing.T, typ, order string, raw []byte, scale float64) {
		c, err := New(Spec{Type: typ, Order: order, Length: len(raw), Scale: scale})
		if err != nil {
			return
		}
		v, err := c.Decode(raw)
		if err != nil {
			return
		}
		_, _ = c.Encode(v)
	})
}
