// Package number turns the bytes of binary numbers into values and back, with
// scale and offset: what registers and the memory of PLCs hold.
package number

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Kind is how the bytes of a number are meant.
type Kind int

// The kinds. BCD has a decimal digit in every four bits.
const (
	Uint Kind = iota
	Int
	Float
	BCD
)

// Number is a kind of 1, 2, 4 or 8 bytes; a Float has 4 or 8. A zero Scale means
// neither scale nor offset: values keep their type. With one they are float64,
// number*Scale+Offset.
type Number struct {
	Kind          Kind
	Size          int
	Scale, Offset float64
}

// Decode reads Size bytes, most significant first: a uint64, an int64 or a
// float64. It fails for digits above 9, and for floats that are no number,
// which JSON could not carry.
func (n Number) Decode(b []byte) (any, error) {
	if len(b) != n.Size || n.Size > 8 {
		return nil, fmt.Errorf("%d bytes where %d were asked for", len(b), n.Size)
	}
	var wide [8]byte
	copy(wide[8-n.Size:], b)
	u := binary.BigEndian.Uint64(wide[:])
	v, f := any(u), float64(u)
	switch n.Kind {
	case Int:
		i := int64(u<<(64-8*n.Size)) >> (64 - 8*n.Size)
		v, f = i, float64(i)
	case Float:
		f = math.Float64frombits(u)
		if n.Size == 4 {
			f = float64(math.Float32frombits(uint32(u)))
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("the number is %v", f)
		}
		v = f
	case BCD:
		u, err := strconv.ParseUint(strconv.FormatUint(u, 16), 10, 64) // a digit is four bits
		if err != nil {
			return nil, fmt.Errorf("% x is no binary-coded decimal", b)
		}
		v, f = u, float64(u)
	}
	if n.Scale == 0 {
		return v, nil
	}
	return f*n.Scale + n.Offset, nil
}

// Encode is the inverse of Decode for a number as Go or JSON has it. A number
// that does not fit is an error, and nothing is rounded, but a scaled one to
// the nearest step.
func (n Number) Encode(v any) ([]byte, error) {
	text, err := n.unscaled(v)
	if err != nil {
		return nil, err
	}
	var u uint64
	switch n.Kind {
	case Int:
		var i int64
		i, err = strconv.ParseInt(text, 10, 8*n.Size)
		u = uint64(i)
	case Uint:
		u, err = strconv.ParseUint(text, 10, 8*n.Size)
	case Float:
		u, err = floatBits(text, n.Size)
	case BCD:
		if _, err = strconv.ParseUint(text, 10, 64); err == nil {
			u, err = strconv.ParseUint(text, 16, 8*n.Size)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%q does not fit", text)
	}
	return binary.BigEndian.AppendUint64(nil, u)[8-n.Size:], nil
}

func floatBits(text string, size int) (uint64, error) {
	f, err := strconv.ParseFloat(text, 8*size)
	switch {
	case err != nil:
		return 0, err
	case math.IsNaN(f) || math.IsInf(f, 0):
		return 0, errors.New("not finite")
	case size == 4:
		return uint64(math.Float32bits(float32(f))), nil
	}
	return math.Float64bits(f), nil
}

// unscaled is the number a device gets, as text.
func (n Number) unscaled(v any) (string, error) {
	text := fmt.Sprint(v)
	if f, ok := v.(float64); ok {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	if n.Scale == 0 {
		return text, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", fmt.Errorf("want a number, got %q", text)
	}
	f = (f - n.Offset) / n.Scale
	if n.Kind != Float {
		f = math.Round(f)
	}
	return strconv.FormatFloat(f, 'f', -1, 64), nil
}

// ParseBool reads true, false, 1 and 0 as a command may spell them.
func ParseBool(v any) (bool, error) {
	switch fmt.Sprint(v) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("want true or false, got %v", v)
}
