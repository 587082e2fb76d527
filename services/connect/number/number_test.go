package number

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNumber(t *testing.T) {
	tests := []struct {
		n    Number
		raw  []byte
		want any
	}{
		{Number{Kind: Uint, Size: 1}, []byte{0xff}, uint64(255)},
		{Number{Kind: Int, Size: 1}, []byte{0xff}, int64(-1)},
		{Number{Kind: Int, Size: 2}, []byte{0xff, 0xd6}, int64(-42)},
		{Number{Kind: Int, Size: 8}, []byte{0x80, 0, 0, 0, 0, 0, 0, 0}, int64(math.MinInt64)},
		{Number{Kind: Uint, Size: 8}, []byte{255, 255, 255, 255, 255, 255, 255, 255}, uint64(math.MaxUint64)},
		{Number{Kind: Float, Size: 4}, []byte{0x47, 0xf1, 0x20, 0}, 123456.0},
		{Number{Kind: Float, Size: 8}, []byte{0x40, 0xfe, 0x24, 0, 0, 0, 0, 0}, 123456.0},
		{Number{Kind: BCD, Size: 2}, []byte{0x12, 0x34}, uint64(1234)},
		{Number{Kind: Int, Size: 2, Scale: 0.1}, []byte{0, 215}, 21.5},
		{Number{Kind: Uint, Size: 2, Scale: 1, Offset: -40}, []byte{0, 100}, 60.0},
	}
	for _, tt := range tests {
		got, err := tt.n.Decode(tt.raw)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%+v of % x: %v (-want +got):\n%s", tt.n, tt.raw, err, diff)
		}
		back, err := tt.n.Encode(got)
		if diff := cmp.Diff(tt.raw, back); err != nil || diff != "" {
			t.Errorf("%+v: write %v: %v (-want +got):\n%s", tt.n, got, err, diff)
		}
	}
}

func TestDoesNotFit(t *testing.T) {
	for _, tt := range []struct {
		n   Number
		raw []byte
	}{
		{Number{Kind: BCD, Size: 2}, []byte{0x12, 0xa4}},
		{Number{Kind: Float, Size: 4}, []byte{0x7f, 0xc0, 0, 0}},
		{Number{Kind: Float, Size: 8}, []byte{0x7f, 0xf0, 0, 0, 0, 0, 0, 0}},
		{Number{Kind: Uint, Size: 4}, []byte{0, 1}},
	} {
		if got, err := tt.n.Decode(tt.raw); err == nil {
			t.Errorf("%+v of % x: got %v, want an error", tt.n, tt.raw, got)
		}
	}
	for _, tt := range []struct {
		n     Number
		value any
	}{
		{Number{Kind: Int, Size: 2}, json.Number("40000")},
		{Number{Kind: Uint, Size: 2}, -1.0},
		{Number{Kind: Uint, Size: 2}, 1.5},
		{Number{Kind: Uint, Size: 2}, "many"},
		{Number{Kind: Uint, Size: 8}, json.Number("18446744073709551616")},
		{Number{Kind: BCD, Size: 2}, 12345.0},
		{Number{Kind: BCD, Size: 2}, "beef"},
		{Number{Kind: Float, Size: 4}, "NaN"},
		{Number{Kind: Float, Size: 4}, 1e300},
		{Number{Kind: Uint, Size: 2, Scale: 0.001}, 1e9},
		{Number{Kind: Uint, Size: 2, Scale: 0.1}, nil},
	} {
		if got, err := tt.n.Encode(tt.value); err == nil {
			t.Errorf("write %v as %+v: got % x, want an error", tt.value, tt.n, got)
		}
	}
}

// FuzzNumber: whatever a device sends is a value or an error, and a value
// written back gives the bytes that were read.
func FuzzNumber(f *testing.F) {
	f.Add(int(Float), []byte{0x20, 0, 0x47, 0xf1})
	f.Add(int(BCD), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, kind int, raw []byte) {
		n := Number{Kind: Kind(kind), Size: len(raw)}
		switch n.Size {
		case 4, 8:
		case 1, 2:
			if n.Kind == Float {
				return
			}
		default:
			return
		}
		v, err := n.Decode(raw)
		if err != nil || n.Kind < Uint || n.Kind > BCD {
			return
		}
		if back, err := n.Encode(v); err != nil || string(back) != string(raw) {
			t.Errorf("%+v % x is %v, written as % x, %v", n, raw, v, back, err)
		}
	})
}
