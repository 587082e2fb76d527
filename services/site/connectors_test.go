package site

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Pages of connectors: one for what all have, one for each protocol.
const (
	connectorsDocument = "../../docs/connectors.md"
	connectorDocuments = "../../docs/connectors/%s.md"
)

// shared are the sections that connectorsDocument is about.
var shared = map[reflect.Type]string{
	reflect.TypeFor[Records]():  "records",
	reflect.TypeFor[Commands](): "commands",
	reflect.TypeFor[Report]():   "report",
}

// protocolsOf lists the fields of Connect that are lists of instances.
func protocolsOf(t *testing.T) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	c := reflect.TypeFor[Connect]()
	for name, f := range fieldsOf(c) {
		if list := c.Field(f.index).Type; list.Kind() == reflect.Slice {
			all[name] = list.Elem()
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no connectors")
	}
	return all
}

// TestConnectorsAreListed: a protocol left out of Instances is neither
// checked nor run.
func TestConnectorsAreListed(t *testing.T) {
	for name, typ := range protocolsOf(t) {
		var c Connect
		list := reflect.ValueOf(&c).Elem().Field(fieldsOf(reflect.TypeOf(c))[name].index)
		list.Set(reflect.MakeSlice(reflect.SliceOf(typ), 1, 1))
		got := c.Instances()
		if len(got) != 1 || got[0].Protocol != name || got[0].Path != "connect."+name+"[0]" {
			t.Errorf("connect.%s: got %+v from Instances, want one at connect.%s[0]", name, got, name)
		}
	}
}

// TestConnectorFields holds each connector's page to its type, and the shared
// page to the shared sections: a row for every field, with type and default.
func TestConnectorFields(t *testing.T) {
	for name, typ := range protocolsOf(t) {
		v := exemplar(typ)
		v.Addr().Interface().(Instance).fill()
		compareRows(t, fmt.Sprintf(connectorDocuments, name), rowsBelow("", v))
	}
	r, m := &Records{}, &Commands{}
	r.fill("", "")
	m.fill()
	var want []row
	for _, v := range []any{*r, *m, Report{}} {
		want = append(want, rowsBelow(shared[reflect.TypeOf(v)], reflect.ValueOf(v))...)
	}
	compareRows(t, connectorsDocument, want)
}

func compareRows(t *testing.T, document string, rows []row) {
	t.Helper()
	want := map[string]row{}
	for _, r := range rows {
		want[r.Path] = r
	}
	for _, cells := range tableRowsOf(t, document, 4) {
		path := strings.Trim(cells[0], "`")
		w, known := want[path]
		if !known {
			t.Errorf("%s: row %q is no field", document, path)
			continue
		}
		delete(want, path)
		def, _, _ := strings.Cut(cells[2], "; ")
		if w.Default == "" && def != "required" {
			def = "" // worded by hand
		}
		if diff := cmp.Diff(w, row{path, cells[1], def}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", document, diff)
		}
		if cells[3] == "" {
			t.Errorf("%s: %s has no meaning", document, path)
		}
	}
	for path, w := range want {
		t.Errorf("%s: field %s is missing from the tables: | `%s` | %s | %s | ... |", document, path, path, w.Type, w.Default)
	}
}

// exemplar is a value of typ with one entry in every list and every section
// that may be left out.
func exemplar(typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Kind() == reflect.Struct:
			f.Set(exemplar(f.Type()))
		case f.Kind() == reflect.Pointer && f.Type().Elem().Kind() == reflect.Struct:
			f.Set(exemplar(f.Type().Elem()).Addr())
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			f.Set(reflect.Append(f, exemplar(f.Type().Elem())))
		}
	}
	return v
}

// rowsBelow lists the fields of a struct, each once; shared sections have a
// row and nothing below.
func rowsBelow(path string, v reflect.Value) []row {
	var rows []row
	for name, f := range fieldsOf(v.Type()) {
		at := join(path, name)
		r, field := rowOf(at, v.Field(f.index), f.needed)
		rows = append(rows, r)
		if _, ok := shared[field.Type()]; ok {
			continue
		}
		switch {
		case field.Kind() == reflect.Struct:
			rows = append(rows, rowsBelow(at, field)...)
		case field.Kind() == reflect.Slice && field.Len() > 0 && field.Type().Elem().Kind() == reflect.Struct:
			rows = append(rows, rowsBelow(at+"[]", field.Index(0))...)
		}
	}
	return rows
}

// TestConnectorExamples: every yaml block of a connector's page is a valid
// profile once version and site stand before it, and together they set every
// field.
func TestConnectorExamples(t *testing.T) {
	for name, typ := range protocolsOf(t) {
		document := fmt.Sprintf(connectorDocuments, name)
		given := map[string]bool{}
		for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(read(t, document)), -1) {
			text := "version: 1\nsite: example\n" + m[1]
			if _, err := Parse(document, []byte(text)); err != nil {
				t.Errorf("an example of %s:\n%v", document, err)
				continue
			}
			root, bad := parseTree(text)
			if bad != nil {
				t.Fatal(bad)
			}
			r := newReport(document)
			decodeProfile(root, &Profile{}, r, Own{})
			for at := range r.keys {
				given[regexp.MustCompile(`\[\d+\]`).ReplaceAllString(at, "[]")] = true
			}
		}
		for _, f := range rowsBelow("", exemplar(typ)) {
			if !given["connect."+name+"[]."+f.Path] {
				t.Errorf("no example of %s sets %s", document, f.Path)
			}
		}
	}
}
