package s7

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/connect/decode"
	"github.com/waysideos/wayside/services/site"
)

// types are those of package decode for the numbers of a PLC.
var types = map[string]string{
	"BYTE": "uint8", "USINT": "uint8", "WORD": "uint16", "UINT": "uint16",
	"DWORD": "uint32", "UDINT": "uint32", "LWORD": "uint64", "ULINT": "uint64",
	"SINT": "int8", "INT": "int16", "DINT": "int32", "LINT": "int64",
	"TIME": "int32", // milliseconds
	"REAL": "float32", "LREAL": "float64",
}

// codec turns a PLC's bytes into a value and back.
type codec struct {
	site.S7Address
	number decode.Codec // of a type in types
}

func newCodec(a site.S7Address, scale, offset float64) (codec, error) {
	c := codec{S7Address: a}
	var err error
	if typ, ok := types[a.Type]; ok {
		c.number, err = decode.New(decode.Spec{Type: typ, Scale: scale, Offset: offset})
	}
	return c, err
}

// decode reads the bytes of the address; of a STRING they may be fewer than
// it can hold.
func (c *codec) decode(raw []byte) (any, error) {
	if c.Type != "STRING" && len(raw) != c.Size {
		return nil, fmt.Errorf("%d bytes where %d were asked for", len(raw), c.Size)
	}
	switch c.Type {
	case "BOOL":
		return raw[0]>>c.Bit&1 == 1, nil
	case "CHAR":
		return latin1(raw), nil
	case "STRING":
		if len(raw) < 2 || int(raw[1]) > len(raw)-2 {
			return nil, fmt.Errorf("no STRING: its length is beyond its end")
		}
		return latin1(raw[2 : 2+int(raw[1])]), nil
	case "DT":
		return dateAndTime(raw)
	case "DTL":
		return dtl(raw)
	}
	return c.number.Decode(raw)
}

// latin1 is text of a PLC, a byte a character.
func latin1(b []byte) string {
	var s strings.Builder
	for _, x := range b {
		s.WriteRune(rune(x))
	}
	return s.String()
}

// dateAndTime reads eight bytes of BCD: year to second, and milliseconds. A
// PLC's clock has no zone; it is taken for UTC.
func dateAndTime(b []byte) (any, error) {
	var n [7]int
	for i := range n {
		if b[i]>>4 > 9 || b[i]&15 > 9 {
			return nil, fmt.Errorf("% x is no DATE_AND_TIME", b)
		}
		n[i] = int(b[i]>>4)*10 + int(b[i]&15)
	}
	if n[0] += 1900; n[0] < 1990 {
		n[0] += 100
	}
	return dateOf(b, n[0], n[1], n[2], n[3], n[4], n[5], (n[6]*10+int(b[7]>>4))*1e6)
}

// dtl reads twelve bytes: year, month, day, weekday, hour, minute, second,
// nanosecond.
func dtl(b []byte) (any, error) {
	return dateOf(b, int(binary.BigEndian.Uint16(b)), int(b[2]), int(b[3]), int(b[5]), int(b[6]), int(b[7]), int(binary.BigEndian.Uint32(b[8:])))
}

func dateOf(b []byte, year, month, day, hour, minute, second, nanosecond int) (any, error) {
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanosecond, time.UTC)
	if t.Year() != year || int(t.Month()) != month || t.Day() != day || t.Hour() != hour || t.Minute() != minute || t.Second() != second {
		return nil, fmt.Errorf("% x is no date", b)
	}
	return t, nil
}

// encode is the inverse of decode for a value as a command has it. A BOOL is
// one byte, 0 or 1; a STRING ends with its text.
func (c *codec) encode(v any) ([]byte, error) {
	switch c.Type {
	case "BOOL":
		switch v {
		case true:
			return []byte{1}, nil
		case false:
			return []byte{0}, nil
		}
		return nil, fmt.Errorf("want true or false, got %v", v)
	case "CHAR", "STRING":
		most := max(1, c.Size-2)
		text, err := fromText(v, most)
		if err != nil {
			return nil, err
		}
		if c.Type == "CHAR" {
			return append(text, ' ')[:1], nil
		}
		return append([]byte{byte(most), byte(len(text))}, text...), nil
	case "DT", "DTL":
		return nil, fmt.Errorf("a %s is not written", c.Type)
	}
	return c.number.Encode(v)
}

func fromText(v any, most int) ([]byte, error) {
	text, ok := v.(string)
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			return nil, fmt.Errorf("%q has a character that a PLC's text does not have", text)
		}
		b = append(b, byte(r))
	}
	if !ok || len(b) > most {
		return nil, fmt.Errorf("want a text of at most %d characters", most)
	}
	return b, nil
}
