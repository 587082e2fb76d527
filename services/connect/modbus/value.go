package modbus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// codec turns registers into a value and back. The zero scale means none: the
// value keeps its type. Otherwise it is a float64, raw*scale+offset.
type codec struct {
	kind          string // one of site.ModbusTypes
	order         string // ABCD, CDAB, BADC or DCBA
	registers     int    // 16 bits each; 0 for what lies in a bit table
	bit           int    // of one register, -1 for none
	scale, offset float64
}

// width is the registers of a type; those of a string are declared.
var width = map[string]int{
	"bool": 1, "int16": 1, "uint16": 1, "bcd16": 1,
	"int32": 2, "uint32": 2, "float32": 2, "bcd32": 2,
	"int64": 4, "uint64": 4, "float64": 4,
}

// decode reads raw, 2 bytes a register as they came, or 1 byte, 0 or 1, of a
// bit table. It fails for what is no value of the type: digits above 9, and
// numbers that are none, which JSON could not carry.
func (c *codec) decode(raw []byte) (any, error) {
	if want := max(1, 2*c.registers); len(raw) != want {
		return nil, fmt.Errorf("%d bytes where %d were asked for", len(raw), want)
	}
	if c.registers == 0 {
		return raw[0] != 0, nil
	}
	if c.bit >= 0 {
		return binary.BigEndian.Uint16(raw)>>c.bit&1 == 1, nil
	}
	v, err := c.number(reorder(raw, c.order))
	if err != nil || c.scale == 0 {
		return v, err
	}
	f, isNumber := toFloat(v)
	if !isNumber {
		return v, nil
	}
	return f*c.scale + c.offset, nil
}

func (c *codec) number(b []byte) (any, error) {
	switch c.kind {
	case "bool":
		return binary.BigEndian.Uint16(b) != 0, nil
	case "int16":
		return int64(int16(binary.BigEndian.Uint16(b))), nil
	case "uint16":
		return uint64(binary.BigEndian.Uint16(b)), nil
	case "int32":
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case "uint32":
		return uint64(binary.BigEndian.Uint32(b)), nil
	case "int64":
		return int64(binary.BigEndian.Uint64(b)), nil
	case "uint64":
		return binary.BigEndian.Uint64(b), nil
	case "float32":
		return finite(float64(math.Float32frombits(binary.BigEndian.Uint32(b))))
	case "float64":
		return finite(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case "bcd16", "bcd32":
		return fromBCD(b)
	case "string":
		text, _, _ := bytes.Cut(b, []byte{0})
		return strings.ToValidUTF8(strings.TrimRight(string(text), " "), "�"), nil
	}
	return nil, fmt.Errorf("no type %q", c.kind)
}

func finite(f float64) (any, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("the number is %v", f)
	}
	return f, nil
}

func fromBCD(b []byte) (any, error) {
	var n uint64
	for _, x := range b {
		if x>>4 > 9 || x&15 > 9 {
			return nil, fmt.Errorf("% x is no binary-coded decimal", b)
		}
		n = n*100 + uint64(x>>4)*10 + uint64(x&15)
	}
	return n, nil
}

func toFloat(v any) (float64, bool) {
	switch n := v.(type) {
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// reorder returns the bytes of a value most significant first. The letters
// name the bytes of two registers in the order in which they come; longer
// values follow the same two rules: words reversed, bytes of a word swapped.
// It is its own inverse.
func reorder(raw []byte, order string) []byte {
	b := slices.Clone(raw)
	if order == "BADC" || order == "DCBA" {
		for i := 0; i+1 < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
	}
	if order == "CDAB" || order == "DCBA" {
		for i, j := 0, len(b)-2; i < j; i, j = i+2, j-2 {
			b[i], b[i+1], b[j], b[j+1] = b[j], b[j+1], b[i], b[i+1]
		}
	}
	return b
}

// encode is the inverse of decode for a value as JSON has it: a bool, a
// string, or a number in its spelling. What does not fit the type is an error
// and nothing is rounded into it, but a scaled number to the nearest step.
func (c *codec) encode(v any) ([]byte, error) {
	if c.registers == 0 || c.bit >= 0 || c.kind == "bool" {
		on, err := toBool(v)
		switch {
		case err != nil:
			return nil, err
		case c.registers == 0:
			return []byte{on}, nil
		case c.bit >= 0:
			return binary.BigEndian.AppendUint16(nil, uint16(on)<<c.bit), nil
		}
		return []byte{0, on}, nil
	}
	if c.kind == "string" {
		text, ok := v.(string)
		if !ok || len(text) > 2*c.registers {
			return nil, fmt.Errorf("want a text of at most %d bytes", 2*c.registers)
		}
		b := make([]byte, 2*c.registers)
		copy(b, text)
		return reorder(b, c.order), nil
	}
	text, err := c.unscaled(v)
	if err != nil {
		return nil, err
	}
	b, err := c.fromText(text)
	if err != nil {
		return nil, err
	}
	return reorder(b, c.order), nil
}

func toBool(v any) (byte, error) {
	switch fmt.Sprint(v) {
	case "true", "1":
		return 1, nil
	case "false", "0":
		return 0, nil
	}
	return 0, fmt.Errorf("want true or false, got %v", v)
}

// unscaled is the number a device gets, as text.
func (c *codec) unscaled(v any) (string, error) {
	text := fmt.Sprint(v)
	if f, ok := v.(float64); ok {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	if c.scale == 0 {
		return text, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", fmt.Errorf("want a number, got %q", text)
	}
	f = (f - c.offset) / c.scale
	if !strings.HasPrefix(c.kind, "float") {
		f = math.Round(f)
	}
	return strconv.FormatFloat(f, 'f', -1, 64), nil
}

func (c *codec) fromText(text string) ([]byte, error) {
	bits := 16 * c.registers
	var n uint64
	var err error
	switch {
	case strings.HasPrefix(c.kind, "int"):
		var i int64
		i, err = strconv.ParseInt(text, 10, bits)
		n = uint64(i)
	case strings.HasPrefix(c.kind, "uint"):
		n, err = strconv.ParseUint(text, 10, bits)
	case strings.HasPrefix(c.kind, "float"):
		var f float64
		if f, err = strconv.ParseFloat(text, bits); err == nil {
			_, err = finite(f)
		}
		if n = math.Float64bits(f); bits == 32 {
			n = uint64(math.Float32bits(float32(f)))
		}
	default: // bcd
		if len(text) > bits/4 {
			err = errors.New("too many digits")
			break
		}
		if _, err = strconv.ParseUint(text, 10, 64); err == nil {
			n, err = strconv.ParseUint(text, 16, bits) // a digit is four bits
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%q does not fit %s", text, c.kind)
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return b[8-2*c.registers:], nil
}
