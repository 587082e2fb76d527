// Package varstore reads and writes the variables in a UEFI flash file, in
// the format that edk2's authenticated variable driver keeps them in
// (edk2, MdeModulePkg/Include/Guid/VariableFormat.h).
package varstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Attributes of a variable (UEFI 2.10, section 8.2).
const (
	NonVolatile       = 0x01
	BootService       = 0x02
	Runtime           = 0x04
	TimeAuthenticated = 0x20
)

// Variable is one variable as the firmware keeps it.
type Variable struct {
	Name       string
	Vendor     GUID
	Attributes uint32
	Time       [16]byte // EFI_TIME of the last authenticated write; zero for others
	Data       []byte
}

// GUID is in the byte order of UEFI: the first three fields little endian.
type GUID [16]byte

// MustGUID parses the usual notation, for constants.
func MustGUID(text string) (g GUID) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != len(g) {
		panic(fmt.Sprintf("GUID %q", text))
	}
	copy(g[:], b)
	for _, field := range [][]byte{g[0:4], g[4:6], g[6:8]} {
		slices.Reverse(field)
	}
	return g
}

var (
	volumeType = MustGUID("fff12b8d-7696-4c8b-a985-2747075b4f50") // EFI_SYSTEM_NV_DATA_FV_GUID
	storeType  = MustGUID("aaf32c78-947b-439a-a180-2e144ec37792") // gEfiAuthenticatedVariableGuid
)

const (
	volumeSignature = 40 // "_FVH"
	volumeHeader    = 48 // HeaderLength
	storeHeader     = 28
	storeSize       = 16
	storeFormat     = 20 // 0x5a formatted, then 0xfe healthy
	header          = 60 // of a variable
	startID         = 0x55aa
	stateAdded      = 0x3f // written in full, not deleted since
	erased          = 0xff
	maxName         = 1024
)

var le = binary.LittleEndian

// store finds the variable store in a flash file: the part that holds
// variables, without its header.
func store(flash []byte) ([]byte, error) {
	if len(flash) < 64 || !bytes.Equal(flash[16:32], volumeType[:]) || string(flash[volumeSignature:][:4]) != "_FVH" {
		return nil, fmt.Errorf("read variable store: the file does not begin with a firmware volume for variables")
	}
	at := int(le.Uint16(flash[volumeHeader:]))
	if at+storeHeader > len(flash) || !bytes.Equal(flash[at:][:16], storeType[:]) {
		return nil, fmt.Errorf("read variable store: no authenticated variable store at byte %d", at)
	}
	size := int(le.Uint32(flash[at+storeSize:]))
	if size < storeHeader || size > len(flash)-at || flash[at+storeFormat] != 0x5a || flash[at+storeFormat+1] != 0xfe {
		return nil, fmt.Errorf("read variable store: %d bytes at byte %d, not formatted or not healthy", size, at)
	}
	return flash[at+storeHeader : at+size], nil
}

// Read returns the variables of a flash file that are in force.
func Read(flash []byte) ([]Variable, error) {
	room, err := store(flash)
	if err != nil {
		return nil, err
	}
	var all []Variable
	for at := 0; at+header <= len(room) && le.Uint16(room[at:]) == startID; {
		h := room[at:]
		nameSize, dataSize := le.Uint32(h[36:]), le.Uint32(h[40:])
		end := int64(at) + header + int64(nameSize) + int64(dataSize)
		if nameSize%2 != 0 || nameSize > maxName || end > int64(len(room)) {
			return nil, fmt.Errorf("read variable store: variable at byte %d: name of %d and data of %d bytes", at, nameSize, dataSize)
		}
		if h[2] == stateAdded {
			v := Variable{
				Name: decodeName(h[header:][:nameSize]), Attributes: le.Uint32(h[4:]),
				Data: bytes.Clone(h[header+nameSize:][:dataSize]),
			}
			copy(v.Time[:], h[16:])
			copy(v.Vendor[:], h[44:])
			all = append(all, v)
		}
		at = align(int(end))
	}
	return all, nil
}

// Put returns a copy of a flash file in which the variables stand, beside
// those of other names that were there. Old versions are cleared away.
func Put(flash []byte, vars ...Variable) ([]byte, error) {
	have, err := Read(flash)
	if err != nil {
		return nil, err
	}
	for _, v := range vars {
		have = slices.DeleteFunc(have, func(old Variable) bool { return old.Name == v.Name && old.Vendor == v.Vendor })
		have = append(have, v)
	}
	flash = bytes.Clone(flash)
	room, err := store(flash)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, v := range have {
		out = v.append(out)
	}
	if len(out)+header > len(room) {
		return nil, fmt.Errorf("write variable store: %d bytes of variables do not fit in %d", len(out), len(room))
	}
	for i := range room[copy(room, out):] {
		room[len(out)+i] = erased
	}
	return flash, nil
}

func (v Variable) append(out []byte) []byte {
	name := encodeName(v.Name)
	h := make([]byte, header)
	le.PutUint16(h, startID)
	h[2] = stateAdded
	le.PutUint32(h[4:], v.Attributes)
	copy(h[16:], v.Time[:])
	le.PutUint32(h[36:], uint32(len(name)))
	le.PutUint32(h[40:], uint32(len(v.Data)))
	copy(h[44:], v.Vendor[:])
	out = append(append(append(out, h...), name...), v.Data...)
	for len(out) != align(len(out)) {
		out = append(out, erased)
	}
	return out
}

func align(n int) int { return (n + 3) &^ 3 }

// encodeName is UTF-16 with a terminating zero.
func encodeName(name string) (b []byte) {
	for _, u := range append(utf16.Encode([]rune(name)), 0) {
		b = le.AppendUint16(b, u)
	}
	return b
}

func decodeName(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && le.Uint16(b) != 0; b = b[2:] {
		units = append(units, le.Uint16(b))
	}
	return string(utf16.Decode(units))
}
