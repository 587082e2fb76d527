// Package rules checks what the house promises of itself: which way imports
// go, one comment a package, no main outside cmd, and the list of what PID 1
// is made of.
package rules

import (
	"encoding/json"
	"errors"
	"flag"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/waysideos/wayside/"

var update = flag.Bool("update", false, "rewrite the list of what cmd/init imports")

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// allowed says, for a folder, which of our packages it may import. The
// longest matching prefix decides; a trailing / matches what is below.
var allowed = map[string][]string{
	"cmd/wayside":  {"boards", "overlays", "image", "image/", "qemu", "qemu/", "services/"},
	"cmd/init":     {"init/"},
	"cmd/rerun":    {"qemu"},
	"cmd/waysided": {"services/"},
	"boards":       {"image/layout"},
	"overlays":     {},
	"image":        {"boards", "overlays", "image/", "services/manifest"},
	"image/layout": {},
	// A disk is written in one way, by the tool and by the installer.
	"init": {"init/", "image/layout", "image/release", "image/flash", "services/manifest", "services/site", "services/claim", "services/vfs"},
	// The suite of connectors runs the box's broker.
	"services/connect/connecttest": {"services/manifest", "services/site", "services/vfs", "services/kafka", "services/secret", "services/broker"},
	"services/manifest":            {},
	"services/site":                {"services/manifest"},
	"services/claim":               {"services/site"}, // made by the tool, read by init
	"services/vfs":                 {},
	"services/secret":              {"services/site"},
	"services/kafka":               {"services/manifest", "services/site", "services/secret"},
	// What a slot holds is one format, written by the build and by the updater.
	"services/updater": {"services/manifest", "services/site", "services/vfs", "services/kafka", "services/secret", "image/layout", "image/release", "image/delta", "image/verity"},
	"services":         {"services/manifest", "services/site", "services/vfs", "services/kafka", "services/secret"},
	"qemu":             {"boards", "image/layout", "image/disk", "qemu", "qemu/"},
	"test":             {"boards", "overlays", "image", "image/", "qemu", "qemu/", "services/", "init/", "test/"},
}

// frame is what connectors have in common; none of them imports another.
var frame = []string{
	"services/connect", "services/connect/connecttest", "services/connect/decode", "services/connect/encode", "services/connect/spool", "services/connect/unpack",
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Dir,GoFiles,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=linux")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportDirection(t *testing.T) {
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			to, ours := strings.CutPrefix(imported, module)
			if ours && to != from && !mayImport(from, to) {
				t.Errorf("%s imports %s: not in that direction, see docs/architecture.md", from, to)
			}
		}
	}
}

// mayImport applies the longest rule that matches from. Packages of one
// service folder (services/broker/...) may import each other.
func mayImport(from, to string) bool {
	if service := serviceOf(from); service != "" && service == serviceOf(to) {
		return service != "connect" || from == "services/connect/catalog" || slices.Contains(frame, to) || connectorOf(from) == connectorOf(to)
	}
	rule, best := []string(nil), -1
	for prefix, targets := range allowed {
		if (from == prefix || strings.HasPrefix(from, prefix+"/")) && len(prefix) > best {
			rule, best = targets, len(prefix)
		}
	}
	return slices.ContainsFunc(rule, func(target string) bool {
		return to == target || strings.HasSuffix(target, "/") && strings.HasPrefix(to, target)
	})
}

func serviceOf(path string) string {
	rest, ok := strings.CutPrefix(path, "services/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

// connectorOf is the folder of a connector, with all that is below it.
func connectorOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "services/connect/"), "/")
	return name
}

func TestMayImport(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"image/uki", "image/layout", true},
		{"image/uki", "init/pid1", false},
		{"init/pid1", "image/uki", false},
		{"services/broker", "services/broker/store", true},
		{"services/broker", "services/replicator", false},
		{"services/replicator", "services/kafka", true},
		{"image/layout", "boards", false},
		{"qemu", "image", false},
		{"services/broker", "cmd/waysided", false},
		{"services/connect/modbus", "services/connect", true},
		{"services/connect/modbus", "services/connect/connecttest", true},
		{"services/connect/modbus", "services/connect/http", false},
		{"services/connect/catalog", "services/connect/http", true},
		{"services/connect/diode", "services/connect/diode/wire", true},
	} {
		if got := mayImport(c.from, c.to); got != c.want {
			t.Errorf("mayImport(%s, %s): got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestMainOnlyInCmd(t *testing.T) {
	for _, p := range list(t, "./...") {
		inCmd := strings.HasPrefix(p.ImportPath, module+"cmd/")
		if (p.Name == "main") != inCmd {
			t.Errorf("%s is package %s: all mains, and only mains, are below cmd", p.ImportPath, p.Name)
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	for _, p := range list(t, "./...") {
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		var with []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, name)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s: got package comments in %q, want them in exactly one file", p.ImportPath, with)
		}
	}
}

func TestModuleHasNoReplace(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(strings.TrimSpace(line), "replace") {
			t.Errorf("go.mod: %q: every dependency is at an exact released version", strings.TrimSpace(line))
		}
	}
}

// TestTopLevel keeps the fixed set of folders.
func TestTopLevel(t *testing.T) {
	want := []string{"CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "boards", "cmd", "docs",
		"examples", "go.mod", "go.sum", "image", "init", "overlays", "qemu", "services", "test"}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "out" {
			got = append(got, e.Name())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("top level (-want +got):\n%s", diff)
	}
}

// TestInitDependencies makes a new dependency of PID 1 show in review.
func TestInitDependencies(t *testing.T) {
	const golden = "testdata/init-dependencies.txt"
	var got strings.Builder
	for _, p := range list(t, "-deps", "./cmd/init") {
		if strings.Contains(strings.SplitN(p.ImportPath, "/", 2)[0], ".") && !strings.HasPrefix(p.ImportPath, "vendor/") {
			got.WriteString(p.ImportPath + "\n")
		}
	}
	sorted := strings.Split(strings.TrimSpace(got.String()), "\n")
	slices.Sort(sorted)
	text := strings.Join(sorted, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("cmd/init's packages changed (-want +got); if meant, run go test ./test/rules -update:\n%s", diff)
	}
}
