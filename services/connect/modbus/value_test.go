package modbus

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/site"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCodec reads and writes back every type and order. The float is the
// example of IEEE 754's converters: 123456.0 is 47F12000.
func TestCodec(t *testing.T) {
	tests := []struct {
		kind, order string
		raw         string
		want        any
		scale       float64
		offset      float64
	}{
		{"int16", "ABCD", "ffd6", int64(-42), 0, 0},
		{"int16", "BADC", "d6ff", int64(-42), 0, 0},
		{"uint16", "ABCD", "ffd6", uint64(65494), 0, 0},
		{"bool", "ABCD", "0001", true, 0, 0},
		{"int16", "ABCD", "00d7", 21.5, 0.1, 0},
		{"uint16", "ABCD", "0064", 60.0, 1, -40},
		{"uint32", "ABCD", "0001e240", uint64(123456), 0, 0},
		{"uint32", "CDAB", "e2400001", uint64(123456), 0, 0},
		{"uint32", "BADC", "010040e2", uint64(123456), 0, 0},
		{"uint32", "DCBA", "40e20100", uint64(123456), 0, 0},
		{"int32", "CDAB", "1dc0fffe", int64(-123456), 0, 0},
		{"float32", "ABCD", "47f12000", 123456.0, 0, 0},
		{"float32", "CDAB", "200047f1", 123456.0, 0, 0},
		{"float32", "BADC", "f1470020", 123456.0, 0, 0},
		{"float32", "DCBA", "0020f147", 123456.0, 0, 0},
		{"float64", "ABCD", "40fe240000000000", 123456.0, 0, 0},
		{"float64", "CDAB", "00000000240040fe", 123456.0, 0, 0},
		{"float64", "DCBA", "000000000024fe40", 123456.0, 0, 0},
		{"int64", "CDAB", "fffeffffffffffff", int64(-2), 0, 0},
		{"uint64", "ABCD", "ffffffffffffffff", uint64(math.MaxUint64), 0, 0},
		{"bcd16", "ABCD", "1234", uint64(1234), 0, 0},
		{"bcd32", "CDAB", "56781234", uint64(12345678), 0, 0},
		{"string", "ABCD", "50726573732031000000", "Press 1", 0, 0},
		{"string", "BADC", "725073650073", "Press", 0, 0},
	}
	for _, tt := range tests {
		c := &codec{kind: tt.kind, order: tt.order, registers: len(tt.raw) / 4, bit: -1, scale: tt.scale, offset: tt.offset}
		got, err := c.decode(unhex(t, tt.raw))
		if err != nil {
			t.Errorf("%s %s %s: %v", tt.kind, tt.order, tt.raw, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s %s (-want +got):\n%s", tt.kind, tt.order, tt.raw, diff)
		}
		back, err := c.encode(got)
		if diff := cmp.Diff(tt.raw, hex.EncodeToString(back)); err != nil || diff != "" {
			t.Errorf("%s %s: write %v: %v (-want +got):\n%s", tt.kind, tt.order, got, err, diff)
		}
	}
}

func TestBits(t *testing.T) {
	register := &codec{kind: "bool", order: "ABCD", registers: 1, bit: 3}
	if got, err := register.decode([]byte{0, 8}); err != nil || got != true {
		t.Errorf("bit 3 of 0008: %v, %v", got, err)
	}
	if got, err := register.decode([]byte{0xff, 0xf7}); err != nil || got != false {
		t.Errorf("bit 3 of fff7: %v, %v", got, err)
	}
	coil := &codec{kind: "bool", bit: -1}
	if got, err := coil.decode([]byte{1}); err != nil || got != true {
		t.Errorf("coil: %v, %v", got, err)
	}
	if got, err := coil.encode(false); err != nil || got[0] != 0 {
		t.Errorf("coil off: %v, %v", got, err)
	}
}

func TestNotOfItsType(t *testing.T) {
	for _, tt := range []struct{ kind, raw string }{
		{"bcd16", "12a4"}, {"float32", "7fc00000"}, {"uint32", "0001"}, {"uint16", ""},
	} {
		c := &codec{kind: tt.kind, order: "ABCD", registers: site.ModbusTypes[tt.kind], bit: -1}
		if got, err := c.decode(unhex(t, tt.raw)); err == nil {
			t.Errorf("%s of %s: got %v, want an error", tt.kind, tt.raw, got)
		}
	}
	for kind, value := range map[string]any{"int16": 40000.0, "bool": 2.0, "string": "too long", "float32": "NaN"} {
		c := &codec{kind: kind, order: "ABCD", registers: max(1, site.ModbusTypes[kind]), bit: -1}
		if got, err := c.encode(value); err == nil {
			t.Errorf("write %v as %s: got % x, want an error", value, kind, got)
		}
	}
}

// FuzzCodec: whatever a device sends is a value or an error, and a value
// written back gives the bytes that were read.
func FuzzCodec(f *testing.F) {
	f.Add("float32", "CDAB", []byte{0x20, 0, 0x47, 0xf1})
	f.Add("bcd32", "DCBA", []byte{1, 2, 3, 4})
	f.Add("string", "BADC", []byte("ab"))
	f.Fuzz(func(t *testing.T, kind, order string, raw []byte) {
		n := site.ModbusTypes[kind]
		if kind == "string" {
			n = len(raw) / 2
		}
		c := &codec{kind: kind, order: order, registers: n, bit: -1}
		v, err := c.decode(raw)
		if err != nil || kind == "string" || kind == "bool" || n == 0 {
			return
		}
		if back, err := c.encode(v); err != nil || string(back) != string(raw) {
			t.Errorf("%s %s % x is %v, written as % x, %v", kind, order, raw, v, back, err)
		}
	})
}
