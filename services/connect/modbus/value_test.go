package modbus

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/connect/decode"
)

func TestCodec(t *testing.T) {
	tests := []struct {
		spec           decode.Spec
		registers, bit int
		raw            string
		want           any
	}{
		{decode.Spec{Type: "int16", Scale: 0.5}, 1, -1, "\x00\x2b", 21.5},
		{decode.Spec{Type: "float32", Order: "CDAB"}, 2, -1, "\x20\x00\x47\xf1", 123456.0},
		{decode.Spec{Type: "string", Order: "BADC"}, 3, -1, "rPse\x00s", "Press"},
		{decode.Spec{Type: "bool"}, 0, -1, "\x01", true},
		{decode.Spec{Type: "bool"}, 1, -1, "\x00\x01", true},
		{decode.Spec{Type: "bool"}, 1, 3, "\x00\x08", true},
		{decode.Spec{Type: "bool"}, 1, 15, "\x00\x00", false},
	}
	for _, tt := range tests {
		c, err := newCodec(tt.spec, tt.registers, tt.bit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.decode([]byte(tt.raw))
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%+v of % x: %v (-want +got):\n%s", tt.spec, tt.raw, err, diff)
		}
		back, err := c.encode(got)
		if diff := cmp.Diff(tt.raw, string(back)); err != nil || diff != "" {
			t.Errorf("%+v: write %v: %v (-want +got):\n%s", tt.spec, got, err, diff)
		}
		if got, err := c.decode([]byte(tt.raw + "x")); err == nil {
			t.Errorf("%+v of a byte too many: got %v", tt.spec, got)
		}
		if back, err := c.encode(map[string]any{}); err == nil {
			t.Errorf("%+v: write an object: got % x", tt.spec, back)
		}
	}
	bit3 := codec{registers: 1, bit: 3}
	if got, err := bit3.decode([]byte("\xff\xf7")); err != nil || got != false {
		t.Errorf("bit 3 of fff7: %v, %v", got, err)
	}
}
