package disk

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// A long name is spread over entries of 13 UTF-16 units that stand before the
// short entry, the last part first. lfnOffsets are the units' places.
const lfnUnits = 13

var lfnOffsets = [lfnUnits]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

const lfnLast = 0x40 // set in the sequence number of the last part

// checkName refuses what FAT or a reader of it cannot hold.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || len(utf16.Encode([]rune(name))) > 255:
		return fmt.Errorf("FAT file name %q: empty, reserved or too long", name)
	case strings.ContainsAny(name, `"*/:<>?\|`) || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd }):
		return fmt.Errorf("FAT file name %q: holds a character that FAT does not allow", name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return fmt.Errorf("FAT file name %q: begins with a blank or ends with a dot or blank", name)
	}
	return nil
}

// shortName picks an 8.3 name that taken does not hold yet. exact tells that
// it says all there is, so that no long name is needed.
func shortName(name string, taken map[[11]byte]bool) (short [11]byte, exact bool) {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	b, e := shortChars(base), shortChars(ext)
	short = pack83(b, e)
	fits := len(b) <= 8 && len(e) <= 3 && strings.EqualFold(name, unpack83(short))
	if fits && !taken[short] {
		taken[short] = true
		return short, name == unpack83(short)
	}
	for n := 1; ; n++ {
		tail := fmt.Sprintf("~%d", n)
		short = pack83(b[:min(len(b), 8-len(tail))]+tail, e[:min(len(e), 3)])
		if !taken[short] {
			taken[short] = true
			return short, false
		}
	}
}

// shortChars keeps what a short name may hold; everything else becomes _.
func shortChars(s string) string {
	var out strings.Builder
	for _, r := range strings.ToUpper(s) {
		switch {
		case r == '.' || r == ' ':
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("$%'-_@~`!(){}^#&", r):
			out.WriteRune(r)
		default:
			out.WriteByte('_')
		}
	}
	return out.String()
}

func pack83(base, ext string) [11]byte {
	var short [11]byte
	copy(short[:], strings.Repeat(" ", 11))
	copy(short[:8], base)
	copy(short[8:], ext)
	return short
}

func unpack83(short [11]byte) string {
	base := strings.TrimRight(string(short[:8]), " ")
	if ext := strings.TrimRight(string(short[8:]), " "); ext != "" {
		return base + "." + ext
	}
	return base
}

// lfnChecksum ties long-name entries to their short entry.
func lfnChecksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// longEntries returns the entries that hold a long name, in disk order.
func longEntries(name string, short [11]byte) []byte {
	units := utf16.Encode([]rune(name))
	parts := (len(units) + lfnUnits - 1) / lfnUnits
	var out []byte
	for part := parts; part >= 1; part-- {
		e := make([]byte, dirEntrySize)
		e[0] = byte(part)
		if part == parts {
			e[0] |= lfnLast
		}
		e[11], e[13] = attrLongName, lfnChecksum(short)
		for i, off := range lfnOffsets {
			unit := uint16(0xffff) // behind the end
			switch at := (part-1)*lfnUnits + i; {
			case at < len(units):
				unit = units[at]
			case at == len(units):
				unit = 0
			}
			le.PutUint16(e[off:], unit)
		}
		out = append(out, e...)
	}
	return out
}

// longName collects the parts of a long name while a directory is read.
type longName struct {
	units    []uint16
	next     byte // sequence number expected next; 0 when complete
	checksum byte
}

func (l *longName) add(e []byte) {
	seq := e[0]
	if seq&lfnLast != 0 {
		seq &^= lfnLast
		*l = longName{units: make([]uint16, int(seq)*lfnUnits), next: seq, checksum: e[13]}
	}
	if seq == 0 || seq > 20 || seq != l.next || e[13] != l.checksum {
		*l = longName{}
		return
	}
	for i, off := range lfnOffsets {
		l.units[int(seq-1)*lfnUnits+i] = le.Uint16(e[off:])
	}
	l.next--
}

// take returns the name if its parts were complete and belong to short, and
// forgets it.
func (l *longName) take(short [11]byte) string {
	done := *l
	*l = longName{}
	if done.next != 0 || len(done.units) == 0 || done.checksum != lfnChecksum(short) {
		return ""
	}
	for i, u := range done.units {
		if u == 0 {
			return string(utf16.Decode(done.units[:i]))
		}
	}
	return string(utf16.Decode(done.units))
}
