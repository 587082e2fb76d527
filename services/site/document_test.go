package site

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const document = "../../docs/site-profile.md"

// least is the shortest profile that has one entry in every list.
const least = `version: 1
site: a
network: {interfaces: [{match: eth0}], wifi: {country: DE, networks: [{ssid: s, eap: {identity: i, ca: c, cert: d, key: k}}]}}
hardware: {clock: {chip: ds3231, bus: b}}
broker:
  topics: [{name: t}]
  listeners: [{name: n, listen: ":1", tls: {cert: c, key: k}, sasl: {mechanisms: [OAUTHBEARER], oauth: {jwks: j}}}]
links: [{name: l, bootstrap: ["h:1"], topics: [t], tls: {}, sasl: {mechanism: OAUTHBEARER, oauth: {token_url: "http://h", client_id: c, client_secret: s}}, budget: {except: [{from: "01:00", to: "02:00", rate: none}]}, rules: [{name: r, topics: [u], where: [{key: k}], window: {every: 1s}}]}]
connect: {mqtt: {listeners: [{name: n, listen: ":2", tls: {cert: c, key: k}}], acl: [{user: u}], publish: [{topic: t, to: u}], routes: [{filter: f, topic: t}]}}
telemetry: {}
`

// row is what the code says of a field: its path, its type and its default,
// in the words of the page. A default of "" is what a person has to word:
// nothing is filled in.
type row struct{ Path, Type, Default string }

// TestDocumentFields holds the page's tables to the Profile: every field has
// a row, every row a field, with the right type and default.
func TestDocumentFields(t *testing.T) {
	p, err := Parse("least", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]row{}
	for _, r := range rowsOf("", reflect.ValueOf(*p)) {
		want[r.Path] = r
	}
	want["links[].rules[].where[].key"] = row{"links[].rules[].where[].key", "string", ""} // a condition needs one
	want["network.hostname"] = row{"network.hostname", "string", "value of `site`"}
	for _, cells := range tableRows(t, 4) {
		path := strings.Trim(cells[0], "`")
		if _, config := topicConfigs[path]; config {
			continue
		}
		w, known := want[path]
		if !known {
			t.Errorf("%s: row %q is no field of the profile", document, path)
			continue
		}
		delete(want, path)
		def, _, _ := strings.Cut(cells[2], "; ")
		if w.Default == "" && def != "required" && !strings.HasPrefix(def, "`") {
			def = "" // worded by hand
		}
		if diff := cmp.Diff(w, row{path, cells[1], def}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", document, diff)
		}
		if cells[3] == "" {
			t.Errorf("%s: %s has no meaning", document, path)
		}
	}
	for path := range want {
		t.Errorf("%s: field %s is missing from the tables", document, path)
	}
}

// rowOf is the row of one field, and the value behind its pointers.
func rowOf(at string, field reflect.Value, needed bool) (row, reflect.Value) {
	r := row{Path: at, Type: typeWord(field.Type())}
	for field.Kind() == reflect.Pointer && !field.IsNil() {
		field = field.Elem()
	}
	switch {
	case needed:
		r.Default = "required"
	case field.Kind() < reflect.Array && !field.IsZero(), field.Kind() == reflect.String && !field.IsZero():
		r.Default = fmt.Sprintf("`%v`", field)
	}
	return r, field
}

// rowsOf lists the fields of a struct. Sections that are always there are
// headings of the page and have no row.
func rowsOf(path string, v reflect.Value) []row {
	var rows []row
	for name, f := range fieldsOf(v.Type()) {
		at := join(path, name)
		r, field := rowOf(at, v.Field(f.index), f.needed)
		if v.Field(f.index).Kind() != reflect.Struct {
			rows = append(rows, r)
		}
		switch {
		case field.Kind() == reflect.Struct:
			rows = append(rows, rowsOf(at, field)...)
		case path == "connect":
			// A connector's fields are on a page of its own.
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			rows = append(rows, rowsOf(at+"[]", field.Index(0))...)
		}
	}
	return rows
}

// ownPage is a connector's list, which another page is about.
func ownPage(path string) bool {
	name, ok := strings.CutPrefix(path, "connect.")
	return ok && !strings.Contains(name, ".") && name != "mqtt"
}

func typeWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeWord(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "list of strings"
		}
		return "list"
	case reflect.Map:
		return "map of strings"
	case reflect.Struct:
		return "section"
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Float64:
		return "number"
	}
	return t.Kind().String()
}

// TestDocumentExamples: together the page's examples are a valid profile that
// sets every field.
func TestDocumentExamples(t *testing.T) {
	var text strings.Builder
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readDocument(t), -1) {
		text.WriteString(m[1])
	}
	if _, err := Parse(document, []byte(text.String())); err != nil {
		t.Fatalf("the examples of %s in one file:\n%v", document, err)
	}
	root, bad := parseTree(text.String())
	if bad != nil {
		t.Fatal(bad)
	}
	r := newReport(document)
	decodeProfile(root, &Profile{}, r, Own{})
	given := map[string]bool{}
	for at := range r.keys {
		given[regexp.MustCompile(`\[\d+\]`).ReplaceAllString(at, "[]")] = true
	}
	p, err := Parse("least", []byte(least))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rowsOf("", reflect.ValueOf(*p)) {
		if !given[f.Path] && !ownPage(f.Path) {
			t.Errorf("no example of %s sets %s", document, f.Path)
		}
	}
}

func TestDocumentTopicConfigs(t *testing.T) {
	var got []string
	for _, cells := range tableRows(t, 4) {
		name := strings.Trim(cells[0], "`")
		rule, known := topicConfigs[name]
		if !known {
			continue
		}
		got = append(got, name)
		if f := rule(strings.Trim(cells[2], "`")); f.reason != "" {
			t.Errorf("%s: default %s of %s: %s", document, cells[2], name, f.reason)
		}
	}
	if diff := cmp.Diff(TopicConfigs(), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("topic configurations of %s (-want +got):\n%s", document, diff)
	}
}

// tableRows are the rows of the page's tables that begin with code, by cells.
func tableRows(t *testing.T, columns int) [][]string { return tableRowsOf(t, document, columns) }

func tableRowsOf(t *testing.T, document string, columns int) [][]string {
	t.Helper()
	var rows [][]string
	for line := range strings.Lines(string(read(t, document))) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != columns {
			t.Fatalf("%s: got %d columns, want %d: %s", document, len(cells), columns, line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func readDocument(t *testing.T) string { return string(read(t, document)) }
