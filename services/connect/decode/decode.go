// Package decode turns a device's bytes into values and back, by declared
// type, byte and word order, scale and offset.
package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Spec declares a value as a profile has it.
type Spec struct {
	Type string // one of Types
	// Order of the bytes of a number as manuals write it, one of Orders: A is
	// the most significant; the word for 8 bytes goes on in the same way.
	// Empty is ABCD. Text and bytes know ABCD, and BADC: swapped in pairs.
	Order  string
	Length int     // bytes of string and bytes
	Scale  float64 // value = raw * Scale + Offset; 0 is 1
	Offset float64
}

// Types and their sizes in bytes; 0 is Spec.Length.
var sizes = map[string]int{
	"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
	"float32": 4, "float64": 8, "bcd16": 2, "bcd32": 4, "string": 0, "bytes": 0,
}

// Orders of bytes.
var orders = []string{"ABCD", "DCBA", "BADC", "CDAB"}

const maxLength = 4096

// Codec is a Spec that was found to be good.
type Codec struct {
	Spec
	size int
}

// New checks a Spec.
func New(s Spec) (Codec, error) {
	n, known := sizes[s.Type]
	if !known {
		return Codec{}, fmt.Errorf("type %q is unknown", s.Type)
	}
	if s.Order == "" {
		s.Order = "ABCD"
	}
	if !slices.Contains(orders, s.Order) {
		return Codec{}, fmt.Errorf("byte order %q is unknown", s.Order)
	}
	if n == 0 {
		if s.Length < 1 || s.Length > maxLength {
			return Codec{}, fmt.Errorf("type %s needs a length from 1 to %d bytes, got %d", s.Type, maxLength, s.Length)
		}
		if s.Order != "ABCD" && s.Order != "BADC" {
			return Codec{}, fmt.Errorf("type %s knows the orders ABCD and BADC", s.Type)
		}
		n = s.Length
	}
	if s.Scale == 0 {
		s.Scale = 1
	}
	if (s.Scale != 1 || s.Offset != 0) && !numeric(s.Type) {
		return Codec{}, fmt.Errorf("type %s has no scale and no offset", s.Type)
	}
	return Codec{s, n}, nil
}

func numeric(typ string) bool { return typ != "bool" && sizes[typ] != 0 }

// Size is how many bytes a value has at the device.
func (c Codec) Size() int { return c.size }

// Decode returns a bool, int64, uint64, float64, string or []byte; with scale
// or offset every number is a float64. raw must have Size bytes.
func (c Codec) Decode(raw []byte) (any, error) {
	if len(raw) != c.size {
		return nil, fmt.Errorf("got %d bytes for a %s, want %d", len(raw), c.Type, c.size)
	}
	b := c.arrange(raw)
	var v any
	switch c.Type {
	case "bool":
		return b[0] != 0, nil
	case "string":
		return string(bytes.ToValidUTF8(bytes.TrimRight(b, "\x00 "), []byte("\uFFFD"))), nil
	case "bytes":
		return b, nil
	case "int8":
		v = int64(int8(b[0]))
	case "uint8":
		v = uint64(b[0])
	case "int16":
		v = int64(int16(binary.BigEndian.Uint16(b)))
	case "uint16":
		v = uint64(binary.BigEndian.Uint16(b))
	case "int32":
		v = int64(int32(binary.BigEndian.Uint32(b)))
	case "uint32":
		v = uint64(binary.BigEndian.Uint32(b))
	case "int64":
		v = int64(binary.BigEndian.Uint64(b))
	case "uint64":
		v = binary.BigEndian.Uint64(b)
	case "float32":
		v = float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
	case "float64":
		v = math.Float64frombits(binary.BigEndian.Uint64(b))
	default:
		n, err := fromBCD(b)
		if err != nil {
			return nil, err
		}
		v = n
	}
	return c.scaled(v), nil
}

func (c Codec) scaled(v any) any {
	if c.Scale == 1 && c.Offset == 0 {
		return v
	}
	switch n := v.(type) {
	case int64:
		return float64(n)*c.Scale + c.Offset
	case uint64:
		return float64(n)*c.Scale + c.Offset
	}
	return v.(float64)*c.Scale + c.Offset
}

// Encode is Decode's inverse, for writes. Values may be of any of the types
// that Decode returns, and numbers in text; one that the type cannot hold is
// an error, never cut.
func (c Codec) Encode(v any) ([]byte, error) {
	b := make([]byte, c.size)
	switch c.Type {
	case "bool":
		on, ok := v.(bool)
		if !ok {
			return nil, fmt.Errorf("want true or false, got %v", v)
		}
		if on {
			b[0] = 1
		}
		return b, nil
	case "string", "bytes":
		text, ok := v.(string)
		if raw, isBytes := v.([]byte); isBytes {
			text, ok = string(raw), true
		}
		if !ok {
			return nil, fmt.Errorf("want text, got %v", v)
		}
		if len(text) > c.size {
			return nil, fmt.Errorf("has %d bytes, the most is %d", len(text), c.size)
		}
		copy(b, text)
		return c.arrange(b), nil
	}
	n, err := toNumber(v)
	if err != nil {
		return nil, err
	}
	if c.Scale != 1 || c.Offset != 0 {
		n = unscaled(n, c.Scale, c.Offset, c.Type)
	}
	if err := c.put(b, n); err != nil {
		return nil, err
	}
	return c.arrange(b), nil
}

// arrange brings bytes into the order ABCD, or back: each order is its own
// inverse.
func (c Codec) arrange(raw []byte) []byte {
	b := bytes.Clone(raw)
	switch c.Order {
	case "DCBA":
		slices.Reverse(b)
	case "BADC":
		for i := 0; i+1 < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
	case "CDAB":
		for i, j := 0, len(b)-2; i < j; i, j = i+2, j-2 {
			b[i], b[i+1], b[j], b[j+1] = b[j], b[j+1], b[i], b[i+1]
		}
	}
	return b
}

var errBCD = errors.New("the bytes are no binary-coded decimal")

func fromBCD(b []byte) (uint64, error) {
	var n uint64
	for _, x := range b {
		if x>>4 > 9 || x&15 > 9 {
			return 0, errBCD
		}
		n = n*100 + uint64(x>>4)*10 + uint64(x&15)
	}
	return n, nil
}
