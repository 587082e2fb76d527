package fat

import (
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// A long name is spread over slots of 13 UTF-16 units that stand before the
// short one, the last part first. unitAt are the units' places.
var unitAt = [...]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

const lastPart = 0x40 // set in the number of the part that comes first

// checkName takes the names that the boot partition needs: letters, digits
// and a few signs, short enough for its slots to fit one sector.
func checkName(name string) error {
	foreign := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._~+-", r))
	}
	if name == "" || len(name) > (perSector-1)*len(unitAt) || strings.ContainsFunc(name, foreign) || strings.Trim(name, ".") != name {
		return fmt.Errorf("file name %q: want letters, digits and . _ ~ + -, at most %d", name, (perSector-1)*len(unitAt))
	}
	return nil
}

// slots returns the folder's slots for a name: long parts, then short, which
// carries everything but its name already.
func slots(name string, short [slotSize]byte, taken map[[11]byte]bool) []byte {
	copy(short[:11], alias(name, taken))
	sum := checksum(short[:11])
	units := utf16.Encode([]rune(name))
	var out []byte
	parts := (len(units) + len(unitAt) - 1) / len(unitAt)
	for part := parts; part >= 1; part-- {
		e := make([]byte, slotSize)
		e[0] = byte(part)
		if part == parts {
			e[0] |= lastPart
		}
		e[11], e[13] = attrLong, sum
		for i, off := range unitAt {
			unit := uint16(0xffff)
			switch at := (part-1)*len(unitAt) + i; {
			case at < len(units):
				unit = units[at]
			case at == len(units):
				unit = 0
			}
			le.PutUint16(e[off:], unit)
		}
		out = append(out, e...)
	}
	return append(out, short[:]...)
}

// alias is a short name that nobody has: of no use but to be there. It comes
// from a sum of the long one, so that equal work writes equal bytes.
func alias(name string, taken map[[11]byte]bool) []byte {
	for n := uint32(0); ; n++ {
		var short [11]byte
		copy(short[:], fmt.Sprintf("W%05X~1EFI", (crc32.ChecksumIEEE([]byte(strings.ToLower(name)))+n)&0xfffff))
		if !taken[short] {
			return short[:]
		}
	}
}

func checksum(short []byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// longName collects the parts of a long name.
type longName struct {
	units []uint16
	next  byte // part expected next; 0 when complete
	sum   byte
}

func (l *longName) add(e []byte) {
	seq := e[0]
	if seq&lastPart != 0 {
		seq &^= lastPart
		*l = longName{units: make([]uint16, int(seq)*len(unitAt)), next: seq, sum: e[13]}
	}
	if seq == 0 || seq > 20 || seq != l.next || e[13] != l.sum {
		*l = longName{}
		return
	}
	for i, off := range unitAt {
		l.units[int(seq-1)*len(unitAt)+i] = le.Uint16(e[off:])
	}
	l.next--
}

// take returns the name if it is complete and belongs to the short one, and
// how many slots it had.
func (l *longName) take(short []byte) (string, int) {
	done := *l
	*l = longName{}
	if done.next != 0 || len(done.units) == 0 || done.sum != checksum(short) {
		return plain83(short), 0
	}
	parts := len(done.units) / len(unitAt)
	for i, u := range done.units {
		if u == 0 {
			return string(utf16.Decode(done.units[:i])), parts
		}
	}
	return string(utf16.Decode(done.units)), parts
}

func plain83(short []byte) string {
	base := strings.TrimRight(string(short[:8]), " ")
	if ext := strings.TrimRight(string(short[8:11]), " "); ext != "" {
		return base + "." + ext
	}
	return base
}
