package site

import "testing"

func TestCovers(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"#", "a", true},
		{"#", "a/+/b", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true},
		{"a/#", "a", true},
		{"a/#", "a/b/#", true},
		{"a/#", "ab", false},
		{"a/+", "a/b", true},
		{"a/+", "a/#", false},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"a/b", "a/+", false},
		{"+/+", "a/b", true},
		{"+", "/", false},
		{"+/+", "/", true},
		{"a", "a", false},
	}
	for _, tt := range tests {
		if got := covers(tt.a, tt.b); got != tt.want {
			t.Errorf("covers(%q, %q): got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"broker", "connect", "console", "links", "site"}
	for got, want := range map[string]string{
		"consol": "console", "Site": "site", "lniks": "links", "conect": "connect", "updates": "", "x": "",
	} {
		if hint := nearest(got, words); hint != want {
			t.Errorf("nearest(%q): got %q, want %q", got, hint, want)
		}
	}
}
