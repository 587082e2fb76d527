package decode

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
)

// toNumber keeps every number exact: 64-bit integers do not fit a float64.
func toNumber(v any) (*big.Float, error) {
	n := new(big.Float).SetPrec(128)
	switch x := v.(type) {
	case int64:
		return n.SetInt64(x), nil
	case int:
		return n.SetInt64(int64(x)), nil
	case uint64:
		return n.SetUint64(x), nil
	case float64:
		if math.IsNaN(x) {
			return nil, fmt.Errorf("want a number, got %v", x)
		}
		return n.SetFloat64(x), nil
	case bool:
		return nil, fmt.Errorf("want a number, got %v", x)
	case fmt.Stringer: // json.Number
		return parseNumber(n, x.String())
	case string:
		return parseNumber(n, x)
	}
	return nil, fmt.Errorf("want a number, got %v", v)
}

func parseNumber(n *big.Float, s string) (*big.Float, error) {
	if len(s) > 64 { // exponents of any length cost time
		return nil, fmt.Errorf("want a number, got text of %d characters", len(s))
	}
	if _, err := fmt.Sscanf(s, "%g", new(float64)); err != nil {
		return nil, fmt.Errorf("want a number, got %q", s)
	}
	f, _, err := n.Parse(s, 10)
	if err != nil {
		return nil, fmt.Errorf("want a number, got %q", s)
	}
	return f, nil
}

// unscaled is the raw value; of whole types the nearest.
func unscaled(n *big.Float, scale, offset float64, typ string) *big.Float {
	raw := new(big.Float).SetPrec(128).Sub(n, big.NewFloat(offset))
	raw.Quo(raw, big.NewFloat(scale))
	if typ == "float32" || typ == "float64" {
		return raw
	}
	half := big.NewFloat(0.5)
	if raw.Sign() < 0 {
		half.Neg(half)
	}
	whole, _ := raw.Add(raw, half).Int(nil)
	if whole == nil { // infinite
		return raw
	}
	return new(big.Float).SetPrec(128).SetInt(whole)
}

// put writes a number in the order ABCD.
func (c Codec) put(b []byte, n *big.Float) error {
	switch c.Type {
	case "float64":
		f, _ := n.Float64()
		binary.BigEndian.PutUint64(b, math.Float64bits(f))
		return nil
	case "float32":
		f, _ := n.Float32()
		if math.IsInf(float64(f), 0) && !n.IsInf() {
			return fmt.Errorf("%s does not fit a float32", n.String())
		}
		binary.BigEndian.PutUint32(b, math.Float32bits(f))
		return nil
	}
	if !n.IsInt() {
		return fmt.Errorf("want a whole number, got %s", n.String())
	}
	whole, _ := n.Int(nil)
	low, high := bounds(c.Type, len(b))
	if whole.Cmp(low) < 0 || whole.Cmp(high) > 0 {
		return fmt.Errorf("%s does not fit %s: want %s to %s", whole, c.Type, low, high)
	}
	raw := uint64(0)
	switch c.Type {
	case "bcd16", "bcd32":
		for i, v := 0, whole.Uint64(); v > 0; i, v = i+4, v/10 {
			raw |= (v % 10) << i
		}
	case "int8", "int16", "int32", "int64":
		raw = uint64(whole.Int64())
	default:
		raw = whole.Uint64()
	}
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte(raw)
		raw >>= 8
	}
	return nil
}

// bounds are the least and the largest whole number of a type of n bytes.
func bounds(typ string, n int) (low, high *big.Int) {
	one, bits := big.NewInt(1), uint(8*n)
	switch typ[0] {
	case 'b':
		return new(big.Int), new(big.Int).Sub(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(2*n)), nil), one)
	case 'i':
		high = new(big.Int).Lsh(one, bits-1)
		return new(big.Int).Neg(high), new(big.Int).Sub(high, one)
	}
	return new(big.Int), new(big.Int).Sub(new(big.Int).Lsh(one, bits), one)
}
