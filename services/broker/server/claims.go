package server

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// kmsg makes an array of as many elements as a request claims, up to the
// number of bytes that follow, and goes through as many tags as it claims. A
// request of a megabyte can thus take a hundred. So each request is first
// walked over without making anything, which finds claims that are not true
// and how much memory decoding takes.
//
// The walk follows a layout that is found out from kmsg itself: a field
// belongs to a version when changing it changes what is encoded.

// layout is the order of fields of one struct in one version.
type layout struct {
	fields   []layoutField
	flexible bool
	size     int64 // bytes of the struct in memory
}

type layoutField struct {
	kind layoutKind
	n    int     // bytes of a fixed field; in memory for an array's element
	elem *layout // of structs; nil when the elements are of n bytes or strings
}

type layoutKind int8

const (
	fixed layoutKind = iota
	text             // length int16, or compact
	blob             // length int32, or compact
	texts            // array of text
	array            // array of elem, or of n bytes each
	maybe            // int8, then elem unless it is negative
)

// tagBytes is what a struct's unknown tags take in memory, at least.
const tagBytes = 400

// layouts of all keys and versions that were asked for so far.
type layouts struct{ m sync.Map } // of int32(key)<<16|version to *layout

func (ls *layouts) of(msg kmsg.Request) *layout {
	id := int32(msg.Key())<<16 | int32(msg.GetVersion())
	if l, ok := ls.m.Load(id); ok {
		return l.(*layout)
	}
	root := kmsg.RequestForKey(msg.Key())
	root.SetVersion(msg.GetVersion())
	if d, ok := root.(interface{ Default() }); ok {
		d.Default()
	}
	l := (&prober{root}).probe(reflect.ValueOf(root).Elem())
	ls.m.Store(id, l)
	return l
}

// prober finds the layout of one version of a request.
type prober struct{ root kmsg.Request }

func (p *prober) encode() []byte { return p.root.AppendTo(nil) }

func (p *prober) probe(v reflect.Value) *layout {
	l := &layout{size: int64(v.Type().Size())}
	for i := range v.NumField() {
		switch f := v.Field(i); v.Type().Field(i).Name {
		case "Version":
		case "UnknownTags":
			l.flexible = p.root.IsFlexible()
		default:
			if lf, ok := p.field(f); ok {
				l.fields = append(l.fields, lf)
			}
		}
	}
	return l
}

// field describes a field; false when this version does not have it, or only
// as a tag, which is walked over whole.
func (p *prober) field(f reflect.Value) (layoutField, bool) {
	base := p.encode()
	old := reflect.ValueOf(f.Interface())
	defer func() { f.Set(old) }()
	grown := func(to reflect.Value) int {
		f.Set(to)
		b := p.encode()
		if bytes.Equal(b, base) {
			return -1
		}
		return len(b) - len(base)
	}
	t := f.Type()
	switch {
	case t.Kind() == reflect.Array || t.Kind() <= reflect.Float64: // numbers, bool, uuid
		return layoutField{kind: fixed, n: int(t.Size())}, grown(changed(f)) == 0
	case t.Kind() == reflect.String:
		return layoutField{kind: text}, grown(reflect.ValueOf("x").Convert(t)) == 1
	case t == reflect.TypeFor[*string]():
		x := "x"
		return layoutField{kind: text}, grown(reflect.ValueOf(&x)) == 1
	case t == reflect.TypeFor[[]byte]():
		return layoutField{kind: blob}, grown(reflect.ValueOf([]byte{1})) == 1
	case t.Kind() == reflect.Slice:
		one := grown(elements(t, 1))
		if one <= 0 || grown(elements(t, 2)) != 2*one {
			return layoutField{}, false
		}
		return p.array(f, elements(t, 1)), true
	case t.Kind() == reflect.Pointer:
		to := reflect.New(t.Elem())
		setDefault(to)
		if grown(to) <= 0 {
			return layoutField{}, false
		}
		return layoutField{kind: maybe, elem: p.probe(f.Elem())}, true
	}
	return layoutField{}, false // a struct in a tag
}

func (p *prober) array(f, one reflect.Value) layoutField {
	f.Set(one)
	t := f.Type().Elem()
	switch t.Kind() {
	case reflect.Struct:
		return layoutField{kind: array, n: int(t.Size()), elem: p.probe(f.Index(0))}
	case reflect.String:
		return layoutField{kind: texts, n: int(t.Size())}
	}
	return layoutField{kind: array, n: int(t.Size())}
}

func changed(f reflect.Value) reflect.Value {
	v := reflect.New(f.Type()).Elem()
	switch f.Kind() {
	case reflect.Bool:
		v.SetBool(!f.Bool())
	case reflect.Array:
		v.Index(0).SetUint(f.Index(0).Uint() + 1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(f.Float() + 1)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(f.Uint() + 1)
	default:
		v.SetInt(f.Int() ^ 1)
	}
	return v
}

func elements(t reflect.Type, n int) reflect.Value {
	s := reflect.MakeSlice(t, n, n)
	for i := range n {
		setDefault(s.Index(i).Addr())
	}
	return s
}

func setDefault(p reflect.Value) {
	if d, ok := p.Interface().(interface{ Default() }); ok {
		d.Default()
	}
}

// claims walks over a request's body and returns how much memory decoding it
// takes beyond its own bytes; limit is the most that is allowed.
func (ls *layouts) claims(msg kmsg.Request, body []byte, limit int64) (int64, error) {
	w := &walker{reader: reader{src: body}, left: limit}
	w.walk(ls.of(msg))
	switch {
	case w.left < 0:
		return 0, fmt.Errorf("%s request of %d bytes takes more than %d to decode", kmsg.NameForKey(msg.Key()), len(body), limit)
	case w.bad:
		return 0, errShort
	}
	return limit - w.left, nil
}

type walker struct {
	reader
	left int64
}

func (w *walker) walk(l *layout) {
	for i := range l.fields {
		f := &l.fields[i]
		switch f.kind {
		case fixed:
			w.take(f.n)
		case text:
			w.bytes(l.flexible, false)
		case blob:
			w.bytes(l.flexible, true)
		case maybe:
			if b := w.take(1); b != nil && int8(b[0]) >= 0 {
				w.walk(f.elem)
			}
		default:
			w.array(l.flexible, f)
		}
	}
	if l.flexible {
		before := len(w.src)
		if w.tags(); len(w.src) < before-1 {
			w.left -= tagBytes + 32*int64(before-len(w.src))
		}
	}
}

func (w *walker) array(compact bool, f *layoutField) {
	n := max(w.length(compact, true), 0)
	if n > len(w.src) {
		w.bad = true
	}
	w.left -= int64(n) * int64(f.n)
	for ; n > 0 && !w.bad && w.left >= 0; n-- {
		switch {
		case f.kind == texts:
			w.bytes(compact, false)
		case f.elem != nil:
			w.walk(f.elem)
		default:
			w.take(f.n)
		}
	}
}
