package overlays

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

func TestBaseHasWhatBootNeeds(t *testing.T) {
	entries, err := Load("base")
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]Entry{}
	for _, e := range entries {
		byPath[e.Path] = e
	}
	for path, want := range map[string]fs.FileMode{
		"/dev":                                  fs.ModeDir | 0o755,
		"/tmp":                                  fs.ModeDir | fs.ModeSticky | 0o777,
		"/state":                                fs.ModeDir | 0o700,
		"/etc/passwd":                           0o644,
		"/etc/resolv.conf":                      fs.ModeSymlink | 0o777,
		"/usr/lib/wayside/units/broker.service": 0o644,
	} {
		if got, ok := byPath[path]; !ok || got.Mode != want {
			t.Errorf("%s: got mode %v (present: %v), want %v", path, got.Mode, ok, want)
		}
	}
}

func TestParentsComeFirst(t *testing.T) {
	entries, err := Load("base")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"": true}
	for _, e := range entries {
		if dir := e.Path[:strings.LastIndex(e.Path, "/")]; !seen[dir] {
			t.Errorf("%s comes before its directory %s, or that is not declared", e.Path, dir)
		}
		seen[e.Path] = true
	}
}

func TestBadOverlays(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"relative", "{path: dev, dir: true}", "not a clean absolute path"},
		{"both", "{path: /x, dir: true, link: y}", "both dir and link"},
		{"absent", "{path: /x, mode: 0o600}", "no such file"},
		{"unknown field", "{path: /x, colour: red}", "unknown field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(fstest.MapFS{
				"overlay.yaml":   {Data: []byte("entries:\n  - " + c.line + "\n")},
				"rootfs/etc/foo": {Data: []byte("x")},
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
