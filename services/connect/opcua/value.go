package opcua

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"
)

// valueOf is a variant's value in the types that readings have. Structures of
// a server's own are text.
func valueOf(v *ua.Variant) any {
	if v == nil || v.Value() == nil {
		return nil
	}
	return plain(v.Value())
}

func plain(v any) any {
	switch x := v.(type) {
	case bool, int64, uint64, float64, string, []byte, time.Time:
		return x
	case *ua.LocalizedText:
		return x.Text
	case *ua.QualifiedName:
		return x.Name
	case *ua.Variant:
		return valueOf(x)
	case *ua.DataValue:
		return valueOf(x.Value)
	case ua.StatusCode:
		return x.Error()
	case fmt.Stringer: // node ids, GUIDs
		return x.String()
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int:
		return r.Int()
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint:
		return r.Uint()
	case reflect.Float32:
		// As the device has it: 21.4, and not 21.399999618530273.
		f, _ := strconv.ParseFloat(strconv.FormatFloat(r.Float(), 'g', -1, 32), 64)
		return f
	case reflect.String:
		return r.String()
	case reflect.Slice, reflect.Array:
		all := make([]any, r.Len())
		for i := range all {
			all[i] = plain(r.Index(i).Interface())
		}
		return all
	}
	return fmt.Sprintf("%+v", v)
}

// variantOf makes of a command's value what a node of that type takes; list
// says that the node holds an array.
func variantOf(value any, typ ua.TypeID, list bool) (*ua.Variant, error) {
	if !list {
		v, err := convert(value, typ)
		if err != nil {
			return nil, err
		}
		return ua.NewVariant(v)
	}
	values, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("the node holds a list, got %v", value)
	}
	if goTypes[typ] == nil {
		return nil, fmt.Errorf("nodes of type %d cannot be written", typ)
	}
	all := reflect.MakeSlice(reflect.SliceOf(goTypes[typ]), 0, len(values))
	for _, x := range values {
		v, err := convert(x, typ)
		if err != nil {
			return nil, err
		}
		all = reflect.Append(all, reflect.ValueOf(v))
	}
	return ua.NewVariant(all.Interface())
}

// goTypes are those that convert gives.
var goTypes = map[ua.TypeID]reflect.Type{
	ua.TypeIDBoolean: reflect.TypeFor[bool](), ua.TypeIDSByte: reflect.TypeFor[int8](), ua.TypeIDByte: reflect.TypeFor[uint8](),
	ua.TypeIDInt16: reflect.TypeFor[int16](), ua.TypeIDUint16: reflect.TypeFor[uint16](), ua.TypeIDInt32: reflect.TypeFor[int32](),
	ua.TypeIDUint32: reflect.TypeFor[uint32](), ua.TypeIDInt64: reflect.TypeFor[int64](), ua.TypeIDUint64: reflect.TypeFor[uint64](),
	ua.TypeIDFloat: reflect.TypeFor[float32](), ua.TypeIDDouble: reflect.TypeFor[float64](), ua.TypeIDString: reflect.TypeFor[string](),
	ua.TypeIDDateTime: reflect.TypeFor[time.Time](), ua.TypeIDByteString: reflect.TypeFor[[]byte](), ua.TypeIDLocalizedText: reflect.TypeFor[*ua.LocalizedText](),
}

// convert makes a JSON value one of that type, and nothing that the type
// cannot hold.
func convert(value any, typ ua.TypeID) (any, error) {
	t := goTypes[typ]
	if t == nil {
		return nil, fmt.Errorf("nodes of type %d cannot be written", typ)
	}
	out := reflect.New(t).Elem()
	bad := fmt.Errorf("want a value of type %s, got %v", strings.TrimPrefix(t.String(), "*ua."), value)
	switch t.Kind() {
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return nil, bad
		}
		return b, nil
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(number(value), 10, t.Bits())
		if err != nil {
			return nil, bad
		}
		out.SetInt(n)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(number(value), 10, t.Bits())
		if err != nil {
			return nil, bad
		}
		out.SetUint(n)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(number(value), t.Bits())
		if err != nil || math.IsInf(f, 0) {
			return nil, bad
		}
		out.SetFloat(f)
	default:
		return fromText(value, typ, bad)
	}
	return out.Interface(), nil
}

func number(value any) string {
	n, _ := value.(json.Number)
	return n.String()
}

func fromText(value any, typ ua.TypeID, bad error) (any, error) {
	s, ok := value.(string)
	if !ok {
		return nil, bad
	}
	switch typ {
	case ua.TypeIDDateTime:
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, bad
		}
		return t, nil
	case ua.TypeIDByteString:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, bad
		}
		return b, nil
	case ua.TypeIDLocalizedText:
		return &ua.LocalizedText{EncodingMask: ua.LocalizedTextText, Text: s}, nil
	}
	return s, nil
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}
