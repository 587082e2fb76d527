package site

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// S7Address is a typed place in the memory of a Siemens S7 PLC.
type S7Address struct {
	Area  byte // S7DB, S7Input, S7Output or S7Marker
	DB    int  // number of the data block, 0 elsewhere
	Start int  // byte
	Bit   int  // of a BOOL, 0 to 7
	Type  string
	Size  int // bytes; of a STRING with its two bytes of length
}

// Areas of S7 memory, by their numbers in the protocol.
const (
	S7Input  byte = 0x81 // process image of inputs: I, in German E
	S7Output byte = 0x82 // of outputs: Q, in German A
	S7Marker byte = 0x83 // M
	S7DB     byte = 0x84
)

// s7Types are the types by the letter of their size, the first of each being
// the one that is meant where none is named. What is longer than four bytes
// stands at a byte.
var s7Types = []struct {
	letter, name string
	size         int
}{
	{"X", "BOOL", 1},
	{"B", "BYTE", 1}, {"B", "CHAR", 1}, {"B", "SINT", 1}, {"B", "USINT", 1},
	{"W", "WORD", 2}, {"W", "INT", 2}, {"W", "UINT", 2},
	{"D", "DWORD", 4}, {"D", "DINT", 4}, {"D", "UDINT", 4}, {"D", "REAL", 4}, {"D", "TIME", 4},
	{"B", "LWORD", 8}, {"B", "LINT", 8}, {"B", "ULINT", 8}, {"B", "LREAL", 8},
	{"B", "DT", 8}, {"B", "DTL", 12}, {"B", "STRING", 0},
}

var (
	s7InBlock   = regexp.MustCompile(`^DB(\d{1,5})\.DB([XBWD])(\d{1,5})(?:\.(\d))?$`)
	s7Elsewhere = regexp.MustCompile(`^([IEQAM])([BWD]?)(\d{1,5})(?:\.(\d))?$`)
	s7String    = regexp.MustCompile(`^STRING\[(\d{1,3})\]$`)
	s7Areas     = map[string]byte{"I": S7Input, "E": S7Input, "Q": S7Output, "A": S7Output, "M": S7Marker}
)

// ParseS7Address reads an address as engineers of Siemens PLCs write it, with
// the type behind: "DB10.DBD4 REAL", "DB1.DBX0.3", "M0.1", "IW64 INT",
// "DB1.DBB10 STRING[20]".
func ParseS7Address(s string) (S7Address, error) {
	place, typ, typed := strings.Cut(strings.ToUpper(s), " ")
	typ = strings.TrimSpace(typ)
	var a S7Address
	var letter, number, bit string
	if m := s7InBlock.FindStringSubmatch(place); m != nil {
		a.Area, letter, number, bit = S7DB, m[2], m[3], m[4]
		a.DB, _ = strconv.Atoi(m[1])
	} else if m := s7Elsewhere.FindStringSubmatch(place); m != nil {
		a.Area, letter, number, bit = s7Areas[m[1]], m[2], m[3], m[4]
		if letter == "" {
			letter = "X"
		}
	} else {
		return a, fmt.Errorf("want an address such as DB10.DBD4 REAL, DB1.DBX0.3, DB1.DBB10 STRING[20], M0.1 or IW64 INT")
	}
	a.Start, _ = strconv.Atoi(number)
	switch {
	case a.Area == S7DB && (a.DB < 1 || a.DB > 65535):
		return a, fmt.Errorf("there is no data block %d", a.DB)
	case a.Start > 65535:
		return a, fmt.Errorf("byte %d is behind the last, 65535", a.Start)
	case (letter == "X") != (bit != ""):
		return a, fmt.Errorf("a bit has a dot and its number, as in DB1.DBX0.3 or M0.1, and nothing else has")
	case bit > "7":
		return a, fmt.Errorf("bit %s is no number from 0 to 7", bit)
	}
	if bit != "" {
		a.Bit = int(bit[0] - '0')
	}
	return a, a.setType(letter, typ, typed)
}

func (a *S7Address) setType(letter, typ string, typed bool) error {
	if m := s7String.FindStringSubmatch(typ); m != nil && letter == "B" {
		n, _ := strconv.Atoi(m[1])
		if n < 1 || n > 254 {
			return fmt.Errorf("a STRING has 1 to 254 characters, got %d", n)
		}
		a.Type, a.Size = "STRING", n+2
		return nil
	}
	var fit []string
	for _, t := range s7Types {
		if t.letter != letter {
			continue
		}
		if (!typed || t.name == typ) && t.size > 0 {
			a.Type, a.Size = t.name, t.size
			return nil
		}
		fit = append(fit, t.name)
	}
	return fmt.Errorf("%q is no type of this size; it may be %s", typ, strings.Join(fit, ", "))
}

// String is the address as ParseS7Address reads it.
func (a S7Address) String() string {
	letter := "B"
	for _, t := range s7Types {
		if t.name == a.Type {
			letter = t.letter
		}
	}
	place := map[byte]string{S7Input: "I", S7Output: "Q", S7Marker: "M", S7DB: fmt.Sprintf("DB%d.DB", a.DB)}[a.Area]
	switch {
	case letter == "X" && a.Area != S7DB:
		return fmt.Sprintf("%s%d.%d", place, a.Start, a.Bit)
	case letter == "X":
		return fmt.Sprintf("%sX%d.%d", place, a.Start, a.Bit)
	case a.Type == "STRING":
		return fmt.Sprintf("%sB%d STRING[%d]", place, a.Start, a.Size-2)
	}
	return fmt.Sprintf("%s%s%d %s", place, letter, a.Start, a.Type)
}
