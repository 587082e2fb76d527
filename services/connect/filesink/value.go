package filesink

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A value of a column is nil, a bool, int64, float64, string, time.Time, a
// json.Number, or json.RawMessage: an object or list as it came.

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// field is one of a JSON object.
type field struct {
	name string
	raw  json.RawMessage
}

var errNoObject = errors.New("the value is no JSON object")

// fields splits a JSON object, in its order. Nothing, as a tombstone has it,
// has no fields.
func fields(value []byte) ([]field, error) {
	if len(bytes.TrimSpace(value)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNoObject
	}
	var all []field
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, errNoObject
		}
		f := field{name: key.(string)}
		if err := dec.Decode(&f.raw); err != nil {
			return nil, errNoObject
		}
		all = append(all, f)
	}
	if _, err := dec.Token(); err != nil || dec.More() {
		return nil, errNoObject
	}
	return all, nil
}

// find is a field by its path; nil where there is none.
func find(all []field, path []string) json.RawMessage {
	for _, f := range all {
		if f.name != path[0] {
			continue
		}
		if len(path) == 1 {
			return f.raw
		}
		inner, err := fields(f.raw)
		if err != nil {
			return nil
		}
		return find(inner, path[1:])
	}
	return nil
}

// plain is what a JSON value says.
func plain(raw json.RawMessage) any {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil
	}
	switch raw[0] {
	case 'n':
		return nil
	case 't':
		return true
	case 'f':
		return false
	case '"':
		var s string
		_ = json.Unmarshal(raw, &s)
		return s
	case '{', '[':
		var b bytes.Buffer
		_ = json.Compact(&b, raw)
		return json.RawMessage(b.Bytes())
	}
	return json.Number(raw)
}

// text is what stands in CSV, and in a column of text.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.RawMessage:
		return string(v)
	case time.Time:
		return v.UTC().Format(timeFormat)
	}
	return fmt.Sprint(v)
}

// printable is bytes as text, or in hex where they are none.
func printable(b []byte) any {
	switch {
	case b == nil:
		return nil
	case utf8.Valid(b):
		return string(b)
	}
	return "0x" + hex.EncodeToString(b)
}

// headers is a JSON object; a name that comes again has a list.
func headers(hs []kgo.RecordHeader) any {
	if len(hs) == 0 {
		return nil
	}
	out := map[string]any{}
	for _, h := range hs {
		v := printable(h.Value)
		switch before, again := out[h.Key]; list := before.(type) {
		case []any:
			out[h.Key] = append(list, v)
		default:
			if again {
				v = []any{before, v}
			}
			out[h.Key] = v
		}
	}
	b, _ := json.Marshal(out)
	return json.RawMessage(b)
}

func header(hs []kgo.RecordHeader, name string) any {
	for _, h := range hs {
		if h.Key == name {
			return printable(h.Value)
		}
	}
	return nil
}

// convert makes a value one of a declared type; "" is any.
func convert(v any, typ string) (any, error) {
	if v == nil || typ == "" {
		return v, nil
	}
	wrong := fmt.Errorf("%q is no %s", shorten(text(v)), typ)
	switch typ {
	case "string":
		return text(v), nil
	case "bool":
		if b, err := strconv.ParseBool(text(v)); err == nil {
			return b, nil
		}
	case "int64":
		if n, err := strconv.ParseInt(text(v), 10, 64); err == nil {
			return n, nil
		}
	case "float64":
		if n, err := strconv.ParseFloat(text(v), 64); err == nil {
			return n, nil
		}
	case "timestamp":
		if t, ok := v.(time.Time); ok {
			return t, nil
		}
		if ms, err := strconv.ParseInt(text(v), 10, 64); err == nil {
			return time.UnixMilli(ms), nil
		}
		if t, err := time.Parse(time.RFC3339, text(v)); err == nil {
			return t, nil
		}
	}
	return nil, wrong
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}
