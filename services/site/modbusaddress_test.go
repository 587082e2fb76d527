package site

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModbusAddress(t *testing.T) {
	tests := map[string]ModbusAddress{
		"holding:0":     {ModbusHolding, 0, -1},
		"holding:65535": {ModbusHolding, 65535, -1},
		"input:7.15":    {ModbusInput, 7, 15},
		"coil:3":        {ModbusCoil, 3, -1},
		"discrete:9999": {ModbusDiscrete, 9999, -1},
		"40001":         {ModbusHolding, 0, -1},
		"40101.3":       {ModbusHolding, 100, 3},
		"00001":         {ModbusCoil, 0, -1},
		"10010":         {ModbusDiscrete, 9, -1},
		"465536":        {ModbusHolding, 65535, -1},
		"30002":         {ModbusInput, 1, -1},
	}
	for text, want := range tests {
		got, err := ParseModbusAddress(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, bad := range []string{"", "holding", "holding:", "holding:65536", "holding:-1", "holding:1.16", "coil:1.0", "40000", "4001", "20001", "465537", "holding:1.", "Holding:1", "40001.16", "4000x"} {
		if got, err := ParseModbusAddress(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func FuzzModbusAddress(f *testing.F) {
	f.Add("holding:1.2")
	f.Add("40101")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseModbusAddress(s)
		if err != nil {
			return
		}
		if again, err := ParseModbusAddress(a.String()); err != nil || again != a {
			t.Errorf("%q is %v, which reads as %v, %v", s, a, again, err)
		}
	})
}
