package filesink

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// kind is what a column of Parquet holds.
type kind int

// Kinds; a column of any other value is text.
const (
	unknown kind = iota // of a column of which only the name counts
	boolean
	integer
	double
	timestamp
	words
)

// column is one of a file.
type column struct {
	name string
	kind kind
	of   func(r *kgo.Record, fields []field) (any, error)
}

// table makes rows of the records of one topic.
type table struct {
	columns []column
	// learns: columns are the fields that the topic's values have had so far.
	// They only become more, and wider, so that each change ends a file once.
	learns  bool
	version int            // counts what was learned
	typed   bool           // the format has types
	taken   map[string]int // columns by the field they are of
	// object: a value that is none is a dead letter.
	object bool
}

func newTable(cfg *site.FileSink) *table {
	t := &table{taken: map[string]int{}, object: needsObject(cfg.Columns), typed: cfg.Format == site.SinkParquet}
	for _, name := range cfg.Include {
		t.columns = append(t.columns, included(name))
	}
	for _, d := range cfg.Columns {
		t.columns = append(t.columns, declared(d))
	}
	switch {
	case len(cfg.Columns) > 0:
	case cfg.Format == site.SinkJSON:
		t.columns = append(t.columns, column{name: "value", kind: words, of: whole})
	default:
		t.learns = true
	}
	return t
}

const headerPrefix = "header:"

func needsObject(cs []site.SinkColumn) bool {
	for _, d := range cs {
		if !strings.HasPrefix(d.From, headerPrefix) {
			return true
		}
	}
	return false
}

// included is a column of what a record has beside its value.
func included(name string) column {
	c := column{name: name, kind: words}
	switch name {
	case "topic":
		c.of = func(r *kgo.Record, _ []field) (any, error) { return r.Topic, nil }
	case "partition":
		c.kind, c.of = integer, func(r *kgo.Record, _ []field) (any, error) { return int64(r.Partition), nil }
	case "offset":
		c.kind, c.of = integer, func(r *kgo.Record, _ []field) (any, error) { return r.Offset, nil }
	case "timestamp":
		c.kind, c.of = timestamp, func(r *kgo.Record, _ []field) (any, error) { return r.Timestamp.UTC(), nil }
	case "key":
		c.of = func(r *kgo.Record, _ []field) (any, error) { return printable(r.Key), nil }
	case "headers":
		c.of = func(r *kgo.Record, _ []field) (any, error) { return headers(r.Headers), nil }
	}
	return c
}

var kinds = map[string]kind{"": words, "string": words, "bool": boolean, "int64": integer, "float64": double, "timestamp": timestamp}

// declared is a column of the profile.
func declared(d site.SinkColumn) column {
	c := column{name: d.Name, kind: kinds[d.Type]}
	raw := func(_ *kgo.Record, fs []field) any { return plain(find(fs, strings.Split(d.From, "."))) }
	if name, ok := strings.CutPrefix(d.From, headerPrefix); ok {
		raw = func(r *kgo.Record, _ []field) any { return header(r.Headers, name) }
	}
	c.of = func(r *kgo.Record, fs []field) (any, error) {
		v, err := convert(raw(r, fs), d.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", d.Name, err)
		}
		return v, nil
	}
	return c
}

// whole is the value, as JSON if it is.
func whole(r *kgo.Record, _ []field) (any, error) {
	if json.Valid(r.Value) && utf8.Valid(r.Value) {
		return plain(r.Value), nil
	}
	return printable(r.Value), nil
}

// valueField is the name of what is no JSON object, among fields learned.
const valueField = "\x00value"

// parse splits a record's value; an error says why it can be in no row.
func (t *table) parse(r *kgo.Record) ([]field, error) {
	if !t.learns && !t.object {
		return nil, nil
	}
	fs, err := fields(r.Value)
	if err == nil || t.object {
		return fs, err
	}
	v, _ := whole(r, nil)
	raw, ok := v.(json.RawMessage)
	if !ok {
		raw, _ = json.Marshal(v)
	}
	return []field{{valueField, raw}}, nil
}

// learn adds what the fields of a record have that no column holds: a file
// that is open has other columns then.
func (t *table) learn(fs []field) error {
	if !t.learns {
		return nil
	}
	for _, f := range fs {
		v := plain(f.raw)
		if v == nil {
			continue // which tells nothing of the kind
		}
		at, known := t.taken[f.name]
		if !known {
			if len(t.columns) >= site.MaxSinkColumns {
				return fmt.Errorf("the topic's values have more than %d fields: declare columns", site.MaxSinkColumns)
			}
			at = len(t.columns)
			t.taken[f.name] = at
			t.columns = append(t.columns, t.learned(f.name))
			t.version++
		}
		c := &t.columns[at]
		if k := kindOf(v); t.typed && c.kind != k && c.kind != words {
			if c.kind != unknown {
				k = words
			}
			c.kind = k
			t.version++
		}
	}
	return nil
}

// learned is a column of a field; one whose name is taken gets another.
func (t *table) learned(name string) column {
	path := []string{name}
	if name == valueField {
		name = "value"
	}
	for t.has(name) {
		name = "value." + name
	}
	return column{name: name, of: func(_ *kgo.Record, fs []field) (any, error) { return plain(find(fs, path)), nil }}
}

func (t *table) has(name string) bool {
	for _, c := range t.columns {
		if c.name == name {
			return true
		}
	}
	return false
}

// kindOf is what a column needs to hold v as it is: an integer that a double
// does not hold becomes text.
func kindOf(v any) kind {
	switch v := v.(type) {
	case bool:
		return boolean
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil && int64(float64(n)) != n {
			return words
		}
		if _, err := v.Float64(); err == nil {
			return double
		}
	}
	return words
}

// row is a record's values, in the order of columns.
func row(columns []column, r *kgo.Record, fs []field) ([]any, error) {
	out := make([]any, len(columns))
	for i, c := range columns {
		v, err := c.of(r, fs)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}
