package modbus

import (
	"encoding/binary"
	"fmt"

	"github.com/waysideos/wayside/services/connect/decode"
)

// codec turns registers into a value and back.
type codec struct {
	decode.Codec     // unused for bits
	registers    int // 16 bits each; 0 for what lies in a bit table
	bit          int // of one register, -1 for none
}

// newCodec is for a value of so many registers; 0 for one of a bit table.
func newCodec(spec decode.Spec, registers, bit int) (codec, error) {
	c := codec{registers: registers, bit: bit}
	if c.truth(spec.Type) {
		return c, nil
	}
	spec.Length = 2 * registers
	var err error
	c.Codec, err = decode.New(spec)
	return c, err
}

// truth says whether the value is a bool: of a bit table, a bit of a register
// or a register that is not zero.
func (c *codec) truth(typ string) bool { return c.registers == 0 || c.bit >= 0 || typ == "bool" }

// decode reads raw, 2 bytes a register as they came, or 1 byte, 0 or 1, of a
// bit table. What is no value of the type is an error.
func (c *codec) decode(raw []byte) (any, error) {
	switch {
	case c.Type != "":
		return c.Decode(raw)
	case len(raw) != max(1, 2*c.registers):
		return nil, fmt.Errorf("got %d bytes for a bool", len(raw))
	case c.registers == 0:
		return raw[0] != 0, nil
	case c.bit >= 0:
		return binary.BigEndian.Uint16(raw)>>c.bit&1 == 1, nil
	}
	return binary.BigEndian.Uint16(raw) != 0, nil
}

// encode is the inverse of decode for a value as a command has it.
func (c *codec) encode(v any) ([]byte, error) {
	if c.Type != "" {
		return c.Encode(v)
	}
	on, ok := v.(bool)
	if !ok {
		return nil, fmt.Errorf("want true or false, got %v", v)
	}
	word := uint16(0)
	if on {
		word = 1 << max(0, c.bit)
	}
	if c.registers == 0 {
		return []byte{byte(word)}, nil
	}
	return binary.BigEndian.AppendUint16(nil, word), nil
}
