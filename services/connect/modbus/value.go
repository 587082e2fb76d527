package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/waysideos/wayside/services/connect/number"
)

// codec turns registers into a value and back.
type codec struct {
	kind          string // one of site.ModbusTypes
	order         string // ABCD, CDAB, BADC or DCBA
	registers     int    // 16 bits each; 0 for what lies in a bit table
	bit           int    // of one register, -1 for none
	scale, offset float64
}

var kinds = map[string]number.Kind{
	"int16": number.Int, "int32": number.Int, "int64": number.Int,
	"uint16": number.Uint, "uint32": number.Uint, "uint64": number.Uint,
	"float32": number.Float, "float64": number.Float, "bcd16": number.BCD, "bcd32": number.BCD,
}

func (c *codec) number() number.Number {
	return number.Number{Kind: kinds[c.kind], Size: 2 * c.registers, Scale: c.scale, Offset: c.offset}
}

// decode reads raw, 2 bytes a register as they came, or 1 byte, 0 or 1, of a
// bit table. What is no value of the type is an error.
func (c *codec) decode(raw []byte) (any, error) {
	if want := max(1, 2*c.registers); len(raw) != want {
		return nil, fmt.Errorf("%d bytes where %d were asked for", len(raw), want)
	}
	switch {
	case c.registers == 0:
		return raw[0] != 0, nil
	case c.bit >= 0:
		return binary.BigEndian.Uint16(raw)>>c.bit&1 == 1, nil
	case c.kind == "bool":
		return binary.BigEndian.Uint16(raw) != 0, nil
	case c.kind == "string":
		text, _, _ := bytes.Cut(reorder(raw, c.order), []byte{0})
		return strings.ToValidUTF8(strings.TrimRight(string(text), " "), "\uFFFD"), nil
	}
	return c.number().Decode(reorder(raw, c.order))
}

// encode is the inverse of decode for a value as a command has it.
func (c *codec) encode(v any) ([]byte, error) {
	if c.registers == 0 || c.bit >= 0 || c.kind == "bool" {
		on, err := number.ParseBool(v)
		word := uint16(0)
		if on {
			word = 1 << max(0, c.bit)
		}
		if c.registers == 0 {
			return []byte{byte(word)}, err
		}
		return binary.BigEndian.AppendUint16(nil, word), err
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
	b, err := c.number().Encode(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", c.kind, err)
	}
	return reorder(b, c.order), nil
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
