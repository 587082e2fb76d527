package site

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestS7Address(t *testing.T) {
	tests := map[string]S7Address{
		"DB10.DBD4 REAL":       {S7DB, 10, 4, 0, "REAL", 4},
		"db10.dbd4 real":       {S7DB, 10, 4, 0, "REAL", 4},
		"DB1.DBX0.3":           {S7DB, 1, 0, 3, "BOOL", 1},
		"DB1.DBW2":             {S7DB, 1, 2, 0, "WORD", 2},
		"DB1.DBB10 STRING[20]": {S7DB, 1, 10, 0, "STRING", 22},
		"DB1.DBB8 LREAL":       {S7DB, 1, 8, 0, "LREAL", 8},
		"M0.1":                 {S7Marker, 0, 0, 1, "BOOL", 1},
		"MW4 INT":              {S7Marker, 0, 4, 0, "INT", 2},
		"E0.7":                 {S7Input, 0, 0, 7, "BOOL", 1},
		"IW64 INT":             {S7Input, 0, 64, 0, "INT", 2},
		"AB1":                  {S7Output, 0, 1, 0, "BYTE", 1},
		"QD4 DINT":             {S7Output, 0, 4, 0, "DINT", 4},
	}
	for text, want := range tests {
		got, err := ParseS7Address(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if again, err := ParseS7Address(got.String()); err != nil || again != got {
			t.Errorf("%s is shown as %s, which reads as %v, %v", text, got, again, err)
		}
	}
	for _, bad := range []string{"", "DB10", "DB0.DBW0", "DB70000.DBW0", "DB1.DBX0", "DB1.DBX0.8", "DB1.DBW0.1", "DB1.DBW0 REAL", "DB1.DBD0 FLOAT", "DB1.DBB0 STRING", "DB1.DBB0 STRING[255]", "DB1.DBB0 STRING[0]", "T5", "M0", "MB70000", "MW0 ", "holding:1"} {
		if got, err := ParseS7Address(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, got)
		}
	}
}

func FuzzS7Address(f *testing.F) {
	f.Add("DB10.DBD4 REAL")
	f.Add("M0.1")
	f.Add("DB1.DBB10 STRING[20]")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseS7Address(s)
		if err != nil {
			return
		}
		if again, err := ParseS7Address(a.String()); err != nil || again != a {
			t.Errorf("%q is %v, which reads as %v, %v", s, a, again, err)
		}
	})
}
