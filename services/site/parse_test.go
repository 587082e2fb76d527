package site

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.bad.txt from what Parse says")

// Every testdata/x.bad.yaml is refused with exactly the lines of x.bad.txt.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("got %d bad files (%v), want at least 15", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			p, err := Parse(name, read(t, file))
			if p != nil || err == nil {
				t.Fatalf("got profile %v, error %v; want only an error", p, err)
			}
			var errs Errors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("got error of type %T, want Errors", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, golden)), err.Error()+"\n"); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadBytes(t *testing.T) {
	const start = "version: 1\nsite: shop\n"
	tests := []struct{ name, in, want string }{
		{"UTF-16", "\xff\xfev\x00", "f:1:1: the file is UTF-16; save it as UTF-8"},
		{"Latin-1", start + "description: caf\xe9\n", "f:3:17: byte 0xe9 is not UTF-8; save the file as UTF-8"},
		{"NUL", start + "# \x00\n", "f:3:3: control character U+0000 is not allowed"},
		{"too large", start + strings.Repeat("#", MaxSize), "f:1:1: the file has 1048598 bytes, the most is 1048576"},
		{"empty lines", start + "description: |" + strings.Repeat("\n ", 100_000), "f:104:1: more than 100 empty lines in a row"},
		{"deep brackets", strings.Repeat("[", 100_000), "f:1:17: nested too deeply"},
		{"deep lists", strings.Repeat("- ", 100_000), "f:1:9: nested too deeply"},
		{"deep fields", strings.Repeat("{a: ", 100_000), "f:1:65: nested too deeply"},
		{"too many fields", start + strings.Repeat("a:\n", 100_000), "f:15000:1: the profile is too long; from here on it is more than a box can use"},
		{"nothing", "", `f:1:1: the file is empty; a profile has at least "version: 1" and "site: NAME"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.in))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A list of many points on one line is not deep.
func TestLongLine(t *testing.T) {
	points := strings.Repeat("{name: a, address: coil:1}, ", 100)
	_, err := Parse("f", []byte("version: 1\nsite: shop\nconnect:\n  modbus:\n    - name: press\n      address: 192.0.2.1\n      points: ["+points+"]\n"))
	if err == nil || strings.Contains(err.Error(), "nested") || !strings.Contains(err.Error(), "points[1]") { // all have one name
		t.Errorf("got %v", err)
	}
}

// What editors on other systems leave in a file is no fault, and does not
// move the place of one.
func TestEditorsAreForgiven(t *testing.T) {
	want, err := Parse("f", []byte("version: 1\nsite: shop\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{
		"\xef\xbb\xbfversion: 1\r\nsite: shop\r\n",
		"version: 1\rsite: shop\r",
		"---\nversion: 1\nsite: shop\n...\n",
		"version: 1 # comment\t\n\t\nsite: shop",
	} {
		got, err := Parse("f", []byte(in))
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
	_, err = Parse("f", []byte("\xef\xbb\xbfversion: 1\r\nsite: shop\r\nsiet: x\r\n"))
	if got, want := err.Error(), `f:3:1: siet: unknown field (did you mean "site"?)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	_, err := Parse("f", []byte("version: 1\nsite: shop\nnetwork:\n  dns:\n"+strings.Repeat("    - x\n", 300)))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors+1 {
		t.Fatalf("got %d errors, want %d and one that counts the rest", len(errs), maxErrors)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
