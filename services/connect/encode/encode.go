// Package encode writes readings of devices as Avro and as Protocol Buffers,
// by schemas that are part of Wayside: reading.avsc and reading.proto.
package encode

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/avro"
	"google.golang.org/protobuf/encoding/protowire"
)

// Reading is what is written. Value is nil, a bool, int64, uint64, float64,
// string, []byte or time.Time; anything else is written as JSON text.
type Reading struct {
	Connector, Point, Address string
	Value                     any
	Unit                      string
	Quality                   int // 0 good, 1 uncertain, 2 bad
	Time, BoxTime             time.Time
	Detail                    string
}

// Schema is that of Avro values.
//
//go:embed reading.avsc
var Schema string

// schema is parsed when it is needed: every service starts with this package.
var schema = sync.OnceValue(func() *avro.Schema { return avro.MustParse(Schema) })

var qualities = []string{"good", "uncertain", "bad"}

// Avro writes r in Avro's single-object encoding (specification, "Single
// object encoding"): C3 01, the schema's CRC-64-AVRO fingerprint, the value.
// An unsigned number above 2^63-1 is a double.
func Avro(r Reading) ([]byte, error) {
	out, err := schema().AppendSingleObject(nil, map[string]any{
		"connector": r.Connector, "point": r.Point, "address": r.Address, "value": avroValue(r.Value), "unit": r.Unit,
		"quality": qualities[r.Quality], "time": r.Time.UnixMilli(), "box_time": r.BoxTime.UnixMilli(), "detail": r.Detail,
	})
	if err != nil {
		return nil, fmt.Errorf("encode as avro: %w", err)
	}
	return out, nil
}

func avroValue(v any) any {
	switch x := plain(v).(type) {
	case uint64:
		if x > math.MaxInt64 {
			return float64(x)
		}
		return int64(x)
	default:
		return x
	}
}

// plain is v as one of the types that both schemas know.
func plain(v any) any {
	switch x := v.(type) {
	case nil, bool, int64, uint64, float64, string, []byte:
		return x
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// Numbers of the fields of reading.proto.
const (
	connectorField protowire.Number = iota + 1
	pointField
	addressField
	boolField
	intField
	uintField
	doubleField
	stringField
	bytesField
	unitField
	qualityField
	timeField
	boxTimeField
	detailField
)

// Protobuf writes r as reading.proto has it, without a length before it.
func Protobuf(r Reading) []byte {
	var b []byte
	text := func(n protowire.Number, s string) {
		if s != "" {
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
		}
	}
	varint := func(n protowire.Number, v uint64) {
		b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	text(connectorField, r.Connector)
	text(pointField, r.Point)
	text(addressField, r.Address)
	switch v := plain(r.Value).(type) { // of a oneof, which is written also when it is zero
	case bool:
		varint(boolField, protowire.EncodeBool(v))
	case int64:
		varint(intField, protowire.EncodeZigZag(v))
	case uint64:
		varint(uintField, v)
	case float64:
		b = protowire.AppendFixed64(protowire.AppendTag(b, doubleField, protowire.Fixed64Type), math.Float64bits(v))
	case string:
		b = protowire.AppendString(protowire.AppendTag(b, stringField, protowire.BytesType), v)
	case []byte:
		b = protowire.AppendBytes(protowire.AppendTag(b, bytesField, protowire.BytesType), v)
	}
	text(unitField, r.Unit)
	if r.Quality != 0 {
		varint(qualityField, uint64(r.Quality))
	}
	varint(timeField, uint64(r.Time.UnixMilli()))
	varint(boxTimeField, uint64(r.BoxTime.UnixMilli()))
	text(detailField, r.Detail)
	return b
}
