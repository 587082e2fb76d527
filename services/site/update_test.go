package site

import (
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	at := func(text string) time.Time {
		tm, err := time.Parse("15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return tm
	}
	tests := []struct {
		window  string
		in, out []string
	}{
		{"02:00-04:00", []string{"02:00", "03:59"}, []string{"01:59", "04:00", "14:00"}},
		{"22:30-04:00", []string{"22:30", "23:59", "00:00", "03:59"}, []string{"22:29", "04:00", "12:00"}},
		{"00:00-00:00", []string{"00:00", "12:00", "23:59"}, nil},
		{"05:00-05:00", []string{"05:00", "04:59"}, nil},
	}
	for _, tt := range tests {
		w, err := ParseWindow(tt.window)
		if err != nil {
			t.Fatalf("%s: %v", tt.window, err)
		}
		for _, s := range tt.in {
			if !w.Contains(at(s)) {
				t.Errorf("%s: %s is outside, want inside", tt.window, s)
			}
		}
		for _, s := range tt.out {
			if w.Contains(at(s)) {
				t.Errorf("%s: %s is inside, want outside", tt.window, s)
			}
		}
	}
	for _, bad := range []string{"", "02:00", "2-4", "24:00-01:00", "02:00-04:00-05:00", "02:60-03:00"} {
		if w, err := ParseWindow(bad); err == nil {
			t.Errorf("%q: got %v, want an error", bad, w)
		}
	}
}
