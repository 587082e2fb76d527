package snmp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect/decode"
	"github.com/waysideos/wayside/services/site"
)

// value is how an object's value is told.
type value struct {
	text          string // site.SNMPAuto, SNMPText or SNMPHex
	scale, offset float64
}

// missing are the answers of an agent that has no such object.
var missing = map[gosnmp.Asn1BER]string{
	gosnmp.NoSuchObject: "noSuchObject", gosnmp.NoSuchInstance: "noSuchInstance", gosnmp.EndOfMibView: "endOfMibView",
}

// decode returns an int64, uint64, float64 or string; numbers are float64
// where scale or offset change them. Time ticks are hundredths of a second.
func (v value) decode(pdu gosnmp.SnmpPDU) (any, error) {
	if word := missing[pdu.Type]; word != "" {
		return nil, fmt.Errorf("the agent says %s", word)
	}
	switch x := pdu.Value.(type) {
	case int:
		return v.scaled(int64(x), float64(x)), nil
	case uint:
		return v.scaled(uint64(x), float64(x)), nil
	case uint32:
		return v.scaled(uint64(x), float64(x)), nil
	case uint64:
		return v.scaled(x, float64(x)), nil
	case float32:
		return v.scaled(float64(x), float64(x)), nil
	case float64:
		return v.scaled(x, x), nil
	case []byte:
		if pdu.Type != gosnmp.OctetString {
			return hex.EncodeToString(x), nil
		}
		return v.string(x), nil
	case string: // an OID or an address
		return strings.TrimPrefix(x, "."), nil
	}
	return nil, fmt.Errorf("the agent gives no value, type %#x", byte(pdu.Type))
}

func (v value) scaled(whole any, n float64) any {
	if (v.scale == 0 || v.scale == 1) && v.offset == 0 {
		return whole
	}
	return n*v.scale + v.offset
}

// string of octets. Some agents end text with a zero byte.
func (v value) string(b []byte) string {
	text := strings.TrimRight(string(b), "\x00")
	if v.text == site.SNMPText {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	isText := utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) && !strings.ContainsRune("\t\r\n", r)
	})
	if v.text == site.SNMPHex || !isText || text == "" && len(b) > 0 {
		return hex.EncodeToString(b)
	}
	return text
}

// numbers are the types of numbers that can be written.
var numbers = map[gosnmp.Asn1BER]string{
	gosnmp.Integer: "int32", gosnmp.Uinteger32: "uint32", gosnmp.Counter32: "uint32", gosnmp.Gauge32: "uint32",
	gosnmp.TimeTicks: "uint32", gosnmp.Counter64: "uint64",
}

// encode is the inverse of decode for a value as a command has it; now is
// what the agent holds, which says of what type it is.
func (v value) encode(x any, now gosnmp.SnmpPDU) (gosnmp.SnmpPDU, error) {
	out := gosnmp.SnmpPDU{Name: now.Name, Type: now.Type}
	if typ := numbers[now.Type]; typ != "" {
		c, err := decode.New(decode.Spec{Type: typ, Scale: v.scale, Offset: v.offset})
		if err != nil {
			return out, err
		}
		b, err := c.Encode(x)
		switch {
		case err != nil:
		case typ == "int32":
			out.Value = int(int32(binary.BigEndian.Uint32(b)))
		case typ == "uint32":
			out.Value = binary.BigEndian.Uint32(b)
		default:
			out.Value = binary.BigEndian.Uint64(b)
		}
		return out, err
	}
	text, ok := x.(string)
	if !ok {
		return out, fmt.Errorf("want text, got %v", x)
	}
	var err error
	switch now.Type {
	case gosnmp.OctetString:
		out.Value = []byte(text)
		if v.text == site.SNMPHex {
			out.Value, err = hex.DecodeString(text)
		}
	case gosnmp.ObjectIdentifier:
		if out.Value = "." + text; !site.ValidOID(text) {
			err = errors.New("want an object identifier in numbers")
		}
	case gosnmp.IPAddress:
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && !a.Is4() {
			err = errors.New("want an address of IP version 4")
		}
		out.Value = text
	default:
		err = fmt.Errorf("objects of type %s are not written here", now.Type)
	}
	return out, err
}
