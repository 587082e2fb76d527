package catalog

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

var update = flag.Bool("update", false, "write the table of docs/connectors.md")

// tried is a case of the suite as a test has it.
type tried struct {
	protocol, variant string
	cannot            map[string]string
}

func (c tried) name() string { return strings.TrimSpace(c.protocol + " " + c.variant) }

// cases are those that the tests of all connectors have, as they are written:
// connecttest.Case{Protocol: "...", Cannot: map[string]string{...}}.
func cases(t *testing.T) (all []tried) {
	t.Helper()
	files, err := filepath.Glob("../*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if sel, ok := lit.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Case" && fmt.Sprint(sel.X) == "connecttest" {
				all = append(all, read(t, name, lit))
			}
			return true
		})
	}
	slices.SortFunc(all, func(a, b tried) int { return cmp.Compare(a.name(), b.name()) })
	return all
}

func read(t *testing.T, file string, lit *ast.CompositeLit) tried {
	t.Helper()
	c := tried{cannot: map[string]string{}}
	fields(lit, func(key string, value ast.Expr) {
		switch key {
		case "Protocol":
			c.protocol = text(value)
		case "Variant":
			c.variant = text(value)
		case "Cannot":
			if m, ok := value.(*ast.CompositeLit); ok {
				fields(m, func(test string, why ast.Expr) { c.cannot[test] = text(why) })
			}
		}
	})
	if c.protocol == "" {
		t.Errorf("%s: a case whose Protocol is not written there", file)
	}
	return c
}

// fields are those of a struct, or the entries of a map, that are written out.
func fields(lit *ast.CompositeLit, each func(key string, value ast.Expr)) {
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch k := kv.Key.(type) {
		case *ast.Ident:
			each(k.Name, kv.Value)
		case *ast.BasicLit:
			each(text(k), kv.Value)
		}
	}
}

// text is a literal, or several that are added.
func text(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(x.Value)
		return s
	case *ast.BinaryExpr:
		return text(x.X) + text(x.Y)
	}
	return ""
}

// services are connectors that stand in no frame: their own services.
var services = []string{"mqtt"}

// Every connector passes the one suite, and says why where it cannot.
func TestEveryConnectorHasTheSuite(t *testing.T) {
	have := map[string]bool{}
	for _, c := range cases(t) {
		have[c.protocol] = true
		for test, why := range c.cannot {
			if !slices.Contains(connecttest.Names(), test) || why == "" {
				t.Errorf("%s cannot have %q because of %q: no test of that name, or no reason that is written there", c.name(), test, why)
			}
		}
	}
	for _, protocol := range append(slices.Sorted(maps.Keys(protocols)), services...) {
		if !have[protocol] {
			t.Errorf("connector %s does not run the suite: its test calls connecttest.Run with a case of it", protocol)
		}
	}
}

const (
	page  = "../../../docs/connectors.md"
	begin = "<!-- suite: written by go test ./services/connect/catalog -update -->\n"
	end   = "<!-- end of suite -->\n"
)

// The table of the document is what the tests are.
func TestTableOfTheSuite(t *testing.T) {
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(doc), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table: %s%s", page, begin, end)
	}
	want := before + begin + table(cases(t)) + end + after
	if want == string(doc) {
		return
	}
	if !*update {
		t.Fatalf("%s: the table of the suite is not what the tests say: run go test ./services/connect/catalog -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func table(all []tried) string {
	var b strings.Builder
	b.WriteString("\n| connector |")
	for _, test := range connecttest.Names() {
		fmt.Fprintf(&b, " %s |", test)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(connecttest.Names())+1) + "\n")
	var reasons []string
	for _, c := range all {
		fmt.Fprintf(&b, "| %s |", c.name())
		for _, test := range connecttest.Names() {
			why := c.cannot[test]
			if why == "" {
				b.WriteString(" yes |")
				continue
			}
			if !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
			fmt.Fprintf(&b, " %d |", slices.Index(reasons, why)+1)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, why := range reasons {
		fmt.Fprintf(&b, "%d. %s\n", i+1, why)
	}
	return b.String()
}
