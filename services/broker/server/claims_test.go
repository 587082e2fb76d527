package server

import (
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field of v, arrays to n elements.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(3)
	case reflect.String:
		v.SetString("four")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" && name != "UnknownTags" {
				fill(v.Field(i), n)
			}
		}
	}
}

// TestLayouts walks over whole and empty requests of every key and version
// that is served and must come out exactly at their ends.
func TestLayouts(t *testing.T) {
	var ls layouts
	for _, a := range apis() {
		for v := max(a.min, 0); v <= a.max; v++ {
			for n := range 3 {
				req := kmsg.RequestForKey(a.key.Int16())
				fill(reflect.ValueOf(req).Elem(), n)
				req.SetVersion(v)
				body := req.AppendTo(nil)
				w := &walker{reader: reader{src: body}, left: 1 << 20}
				w.walk(ls.of(req))
				if w.bad || len(w.src) > 0 || w.left < 0 {
					t.Errorf("%s version %d with arrays of %d: bad %v, %d of %d bytes left over", a.key.Name(), v, n, w.bad, len(w.src), len(body))
				}
			}
		}
	}
}

// TestClaims refuses requests that kmsg would take for much larger than they
// are, or go through for long.
func TestClaims(t *testing.T) {
	var ls layouts
	fetch := kmsg.NewPtrFetchRequest()
	fetch.Version = 4
	many := binary.BigEndian.AppendUint32(make([]byte, 17), 100000)
	many = append(many, make([]byte, 100000)...)
	meta := kmsg.NewPtrMetadataRequest()
	meta.Version = 12
	for name, tt := range map[string]struct {
		msg  kmsg.Request
		body []byte
	}{
		"as many topics as bytes": {fetch, many},
		"4 G tags":                {meta, []byte{0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		"4 G topics":              {meta, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0}},
	} {
		if n, err := ls.claims(tt.msg, tt.body, 1<<20); err == nil {
			t.Errorf("%s: got %d bytes, want an error", name, n)
		}
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	req.Topics = make([]kmsg.FetchRequestTopic, 100)
	if n, err := ls.claims(req, req.AppendTo(nil), 1<<20); err != nil || n != 100*int64(reflect.TypeFor[kmsg.FetchRequestTopic]().Size()) {
		t.Errorf("100 topics: got %d bytes, %v", n, err)
	}
}
