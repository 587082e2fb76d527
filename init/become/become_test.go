//go:build linux

package become

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// init/supervise tests what a process becomes. Here is what it refuses.

func TestNumbers(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "0": {0}, "7,65534,0": {7, 65534, 0}, "2199023255551": {1<<41 - 1}} {
		if got, err := numbers(text); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"-1", "1,", ",", "a", "1 2", "99999999999999999999"} {
		if got, err := numbers(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
	for _, n := range []int{0, 9, 10, 4194304} {
		if got, want := decimal(n), strconv.Itoa(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRefusedOrders(t *testing.T) {
	for _, words := range [][]string{nil, {"--"}, {"nofile"}, {"nofile=1,2", "--", "/bin/true"}, {"user=1", "--", "/bin/true"}, {"other=1", "--", "/bin/true"}} {
		if what, err := become(words); err == nil || strings.HasPrefix(what, "execute") {
			t.Errorf("%q: got %q, %v; want a refusal", words, what, err)
		}
	}
}

// Whatever else is imported is set up first, and what comes before that in the
// order of paths.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if i.Path.Value != `"syscall"` && i.Path.Value != `"unsafe"` {
				t.Errorf("%s imports %s", file, i.Path.Value)
			}
		}
	}
}
