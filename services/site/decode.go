package site

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills Go values from the tree, strictly. A field whose yaml tag
// says omitempty may be left out; every other one is needed.
type decoder struct {
	*report
	own *ownWords
}

func decodeProfile(root *ast.MappingNode, p *Profile, r *report, own Own) {
	decoder{r, readOwn(root, own)}.object("", root, reflect.ValueOf(p).Elem())
}

func (d decoder) decode(path string, node ast.Node, v reflect.Value) {
	if _, null := node.(*ast.NullNode); null {
		hint := "leave the line out or give it a value"
		if v.Kind() == reflect.String {
			hint = "quote text that starts with #"
		}
		d.value(path, "", "is empty; %s", hint)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(path, node, v.Elem())
	case reflect.Struct:
		if m, ok := d.mapping(path, node); ok {
			d.object(path, m, v)
		}
	case reflect.Slice:
		d.list(path, node, v)
	case reflect.Map:
		d.words(path, node, v)
	default:
		d.scalar(path, node, v)
	}
}

// object decodes a struct, field by field.
func (d decoder) object(path string, m *ast.MappingNode, v reflect.Value) {
	fields := fieldsOf(v.Type())
	seen := d.eachKey(path, m, func(name, at string, node ast.Node) {
		f, ok := fields[name]
		if !ok {
			d.unknown(at, name, fields)
			return
		}
		d.decode(at, node, v.Field(f.index))
	})
	for name, f := range fields {
		at := join(path, name)
		switch {
		case !f.needed:
		case !seen[name]:
			d.keys[at] = d.keys[path]
			d.key(at, "", "is missing")
		case v.Field(f.index).IsZero() || v.Field(f.index).Kind() == reflect.Slice && v.Field(f.index).Len() == 0:
			d.value(at, "", "is empty")
		}
	}
}

// eachKey calls fn for every key of m, the first time it appears.
func (d decoder) eachKey(path string, m *ast.MappingNode, fn func(name, at string, node ast.Node)) map[string]bool {
	seen := map[string]bool{}
	for i, kv := range m.Values {
		name := kv.Key.GetToken().Value
		at := join(path, name)
		if seen[name] {
			// The complaint stands at the second one, under a name of its own,
			// or it would hide what is wrong with the first.
			twice := fmt.Sprintf("%s\x00%d", at, i)
			d.keys[twice] = positionOf(kv.Key.GetToken())
			d.key(twice, "", "is given twice, first on line %d", d.lineOf(at))
			d.errs[len(d.errs)-1].Field = at
			continue
		}
		seen[name] = true
		d.keys[at] = positionOf(kv.Key.GetToken())
		d.place(at, kv.Value)
		fn(name, at, kv.Value)
	}
	return seen
}

// place notes where a value stands: a scalar by itself, anything else where
// its field's name is, which is where a person looks for it.
func (d decoder) place(at string, node ast.Node) {
	if _, ok := node.(ast.ScalarNode); ok {
		d.vals[at] = positionOf(node.GetToken())
	}
}

func (d decoder) unknown(at, name string, fields map[string]field) {
	words := make([]string, 0, len(fields))
	for w := range fields {
		words = append(words, w)
	}
	if hint := nearest(name, words); hint != "" {
		d.key(at, hint, "unknown field")
		return
	}
	d.key(at, "", "unknown field; known here: %s", sortedList(words))
}

func (d decoder) list(path string, node ast.Node, v reflect.Value) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		d.value(path, "", "want a list (lines that start with -), got %s", kindOf(node))
		return
	}
	if len(seq.Values) == 0 {
		return // nil, as if left out: Marshal writes neither
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.keys[at] = itemPosition(item, d.keys[path])
		d.place(at, item)
		d.decode(at, item, v.Index(i))
	}
}

func itemPosition(item ast.Node, parent position) position {
	switch n := item.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return positionOf(n.Values[0].Key.GetToken())
		}
	case ast.ScalarNode:
		return positionOf(n.GetToken())
	}
	return parent
}

// words decodes a map of text to text. Values may be numbers or truth values
// as well and keep the spelling of the file.
func (d decoder) words(path string, node ast.Node, v reflect.Value) {
	m, ok := d.mapping(path, node)
	if !ok || len(m.Values) == 0 {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	d.eachKey(path, m, func(name, at string, node ast.Node) {
		switch n := node.(type) {
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
			v.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(n.GetToken().Value))
		default:
			s := reflect.New(v.Type().Elem()).Elem()
			d.decode(at, node, s)
			v.SetMapIndex(reflect.ValueOf(name), s)
		}
	})
}

func (d decoder) scalar(path string, node ast.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		d.text(path, node, v)
	case reflect.Bool:
		if b, ok := node.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		d.value(path, "", "want true or false, got %s", kindOf(node))
	case reflect.Int:
		n, ok := intOf(node)
		if !ok {
			d.value(path, "", "want a whole number, got %s", kindOf(node))
			return
		}
		v.SetInt(n)
	case reflect.Float64:
		f, ok := floatOf(node)
		if !ok {
			d.value(path, "", "want a number, got %s", kindOf(node))
			return
		}
		v.SetFloat(f)
	default:
		panic("site: no decoding for " + v.Type().String())
	}
}

// times are fields that hold a time, where a number alone lacks its unit.
var times = map[string]bool{
	"every": true, "grace": true, "interval": true, "keep_alive": true, "max_age": true,
	"pause": true, "sampling": true, "settle": true, "timeout": true,
}

func (d decoder) text(path string, node ast.Node, v reflect.Value) {
	var s string
	switch n := node.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if n := node.GetToken().Value; times[path[strings.LastIndexByte(path, '.')+1:]] && notIn(n, digits+".") == "" {
			d.value(path, n+"s", "want a time such as 500ms or 5s, got the number %s", n)
			return
		}
		if v.Type() != reflect.TypeFor[Value]() {
			d.value(path, "", "want text, got %s; put it in quotes", kindOf(node))
			return
		}
		s = n.GetToken().Value
	default:
		d.value(path, "", "want text, got %s", kindOf(node))
		return
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
		d.value(path, "", "holds a control character")
		return
	}
	v.SetString(d.expand(path, s))
}

func (d decoder) mapping(path string, node ast.Node) (*ast.MappingNode, bool) {
	m, ok := node.(*ast.MappingNode)
	if !ok {
		d.value(path, "", "want fields (lines such as \"name: value\"), got %s", kindOf(node))
	}
	return m, ok
}

func intOf(node ast.Node) (int64, bool) {
	n, ok := node.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	switch i := n.Value.(type) {
	case int64:
		return i, i >= math.MinInt32 && i <= math.MaxInt32
	case uint64:
		return int64(i), i <= math.MaxInt32
	}
	return 0, false
}

func floatOf(node ast.Node) (float64, bool) {
	switch n := node.(type) {
	case *ast.FloatNode:
		return n.Value, true
	case *ast.IntegerNode:
		f, err := strconv.ParseFloat(n.GetToken().Value, 64)
		return f, err == nil
	}
	return 0, false
}

// kindOf names a node for a person.
func kindOf(node ast.Node) string {
	switch n := node.(type) {
	case *ast.MappingNode:
		return "fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return n.Token.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.StringNode:
		return fmt.Sprintf("the text %q", shorten(n.Value))
	}
	return "text"
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
