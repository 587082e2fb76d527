package s7

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/connect/number"
	"github.com/waysideos/wayside/services/site"
)

var kinds = map[string]number.Kind{
	"BYTE": number.Uint, "USINT": number.Uint, "WORD": number.Uint, "UINT": number.Uint,
	"DWORD": number.Uint, "UDINT": number.Uint, "LWORD": number.Uint, "ULINT": number.Uint,
	"SINT": number.Int, "INT": number.Int, "DINT": number.Int, "LINT": number.Int,
	"TIME": number.Int, // milliseconds
	"REAL": number.Float, "LREAL": number.Float,
}

// codec turns a PLC's bytes into a value and back.
type codec struct {
	site.S7Address
	scale, offset float64 // number's
}

func (c *codec) number() number.Number {
	return number.Number{Kind: kinds[c.Type], Size: c.Size, Scale: c.scale, Offset: c.offset}
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
	return c.number().Decode(raw)
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
		on, err := number.ParseBool(v)
		if on {
			return []byte{1}, err
		}
		return []byte{0}, err
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
	b, err := c.number().Encode(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", c.Type, err)
	}
	return b, nil
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
