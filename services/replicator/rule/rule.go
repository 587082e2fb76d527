// Package rule is what a link's rules do to a record: keep it or not, cut
// fields out of it, or sum it up with others. It knows no Kafka cluster, so
// that a dry run does what the link does.
package rule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// Rule is one rule of a link. The zero value carries every record as it is.
type Rule struct {
	where  []condition
	fields [][]string // paths
	sample uint64     // one of so many of each key; 0 for all
	window *window
	newest time.Duration
}

// New makes a rule of one that site.Parse has found right.
func New(r site.LinkRule) (*Rule, error) {
	out := &Rule{sample: uint64(max(r.Sample, 0))}
	if r.NewestFirst != "" {
		d, err := time.ParseDuration(r.NewestFirst)
		if err != nil {
			return nil, fmt.Errorf("rule %s: newest_first: %w", r.Name, err)
		}
		out.newest = d
	}
	for _, q := range r.Where {
		c, err := newCondition(q)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		out.where = append(out.where, c)
	}
	for _, f := range r.Fields {
		out.fields = append(out.fields, strings.Split(f, "."))
	}
	if r.Window != nil {
		w, err := newWindow(*r.Window)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		out.window = w
	}
	return out, nil
}

// Windowed is true when the rule carries summaries: records go through
// Windows, not through Apply.
func (r *Rule) Windowed() bool { return r.window != nil }

// Newest is how old records may be that go before older ones which wait; 0 if
// none do.
func (r *Rule) Newest() time.Duration { return r.newest }

// Plain is true when every record is carried as it is.
func (r *Rule) Plain() bool {
	return len(r.where) == 0 && len(r.fields) == 0 && r.sample < 2 && r.window == nil
}

// Keep says whether the rule is about this record. It depends on nothing but
// the record, so that a record read again is judged as it was.
func (r *Rule) Keep(rec *kgo.Record) bool {
	if len(r.where) > 0 {
		v := &value{raw: rec.Value}
		for _, c := range r.where {
			if !c.holds(rec, v) {
				return false
			}
		}
	}
	return r.sample < 2 || sampled(rec, r.sample)
}

// sampled picks one of n records: by offset, shifted by the key, so that
// devices that report in turns are all seen.
func sampled(rec *kgo.Record, n uint64) bool {
	h := fnv.New64a()
	h.Write(rec.Key)
	return (uint64(rec.Offset)+h.Sum64()%n)%n == 0
}

// Apply returns the value to carry for a record that Keep is true for. An
// error is about the record, and will be the same every time.
func (r *Rule) Apply(rec *kgo.Record) ([]byte, error) {
	if len(r.fields) == 0 || rec.Value == nil { // a tombstone stays one
		return rec.Value, nil
	}
	v := &value{raw: rec.Value}
	if v.object() == nil {
		return nil, fmt.Errorf("the value is no JSON object, and the rule carries fields of one")
	}
	out := map[string]any{}
	for _, path := range r.fields {
		if got, ok := v.at(path); ok {
			put(out, path, got)
		}
	}
	return encode(out), nil
}

func put(m map[string]any, path []string, v any) {
	for _, name := range path[:len(path)-1] {
		next, ok := m[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[name] = next
		}
		m = next
	}
	m[path[len(path)-1]] = v
}

// encode writes JSON with sorted names, so that a record read again becomes
// the same bytes.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // of what was decoded, or of numbers
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// value decodes a record's value when somebody asks for the first time.
type value struct {
	raw  []byte
	done bool
	obj  map[string]any // nil: no JSON object
}

func (v *value) object() map[string]any {
	if !v.done {
		v.done = true
		dec := json.NewDecoder(bytes.NewReader(v.raw))
		dec.UseNumber() // a number is carried as it is spelled
		var obj map[string]any
		if dec.Decode(&obj) == nil && !dec.More() {
			v.obj = obj
		}
	}
	return v.obj
}

// at is the field of a path.
func (v *value) at(path []string) (any, bool) {
	var cur any = v.object()
	for _, name := range path {
		obj, ok := cur.(map[string]any)
		if !ok || obj == nil {
			return nil, false
		}
		if cur, ok = obj[name]; !ok {
			return nil, false
		}
	}
	return cur, true
}
