// Package uki assembles unified kernel images, reads them back, and signs and
// verifies PE files such as these and boot loaders.
//
// A UKI is a PE program, systemd's stub, with further sections that the stub
// reads: the kernel, its initramfs, its command line. See the UAPI group's
// Unified Kernel Image specification and Microsoft's PE format.
package uki

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Offsets in the PE32+ optional header.
const (
	optInitializedData = 8
	optSectionAlign    = 32
	optFileAlign       = 36
	optSizeOfImage     = 56
	optSizeOfHeaders   = 60
	optCheckSum        = 64
	optDirectories     = 108 // count of data directories; they follow
	optCertTable       = 112 + 4*8
	optMinimum         = optCertTable + 8

	coffSections   = 6  // NumberOfSections, from the PE signature
	coffOptional   = 20 // SizeOfOptionalHeader
	coffSize       = 24 // PE signature and COFF header
	sectionSize    = 40 // one section header
	maxSections    = 96 // as Windows' loader has it
	magicPE32Plus  = 0x20b
	machineOffset  = 4
	machineAMD64   = 0x8664
	machineARM64   = 0xaa64
	dosHeader      = 64
	peOffsetField  = 0x3c
	characteristic = 0x40000040 // initialised data, readable
)

// file is a PE32+ file in memory whose headers lie within it.
type file struct {
	data     []byte
	opt      int // offset of the optional header
	table    int // offset of the section table
	headers  int // SizeOfHeaders
	sections []section
	certOff  int // certificate table; certLen 0 if there is none
	certLen  int
}

type section struct {
	name                 string
	virtualSize, address uint32
	rawSize, rawOff      uint32
}

var le = binary.LittleEndian

func parse(data []byte) (*file, error) {
	f := &file{data: data}
	if len(data) < dosHeader || data[0] != 'M' || data[1] != 'Z' {
		return nil, fmt.Errorf("read PE file: no MZ header")
	}
	pe := int(le.Uint32(data[peOffsetField:]))
	if pe < 0 || pe > len(data)-coffSize-optMinimum || string(data[pe:pe+4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("read PE file: no PE header at offset %d", pe)
	}
	f.opt = pe + coffSize
	optSize := int(le.Uint16(data[pe+coffOptional:]))
	if le.Uint16(data[f.opt:]) != magicPE32Plus || optSize < optMinimum || le.Uint32(data[f.opt+optDirectories:]) < 5 {
		return nil, fmt.Errorf("read PE file: not PE32+ with a certificate directory")
	}
	f.table = f.opt + optSize
	f.headers = int(le.Uint32(data[f.opt+optSizeOfHeaders:]))
	count := int(le.Uint16(data[pe+coffSections:]))
	if count > maxSections || f.headers > len(data) || f.table+count*sectionSize > f.headers {
		return nil, fmt.Errorf("read PE file: %d sections do not fit in headers of %d bytes", count, f.headers)
	}
	if err := f.readCertTable(); err != nil {
		return nil, err
	}
	return f, f.readSections(count)
}

// readCertTable accepts a table only at the very end, where every signer puts
// it: what lies behind one is covered by nothing.
func (f *file) readCertTable() error {
	f.certOff = int(le.Uint32(f.data[f.opt+optCertTable:]))
	f.certLen = int(le.Uint32(f.data[f.opt+optCertTable+4:]))
	if f.certLen == 0 && f.certOff == 0 {
		f.certOff = len(f.data)
		return nil
	}
	if f.certOff < f.headers || f.certLen < 8 || f.certOff+f.certLen != len(f.data) {
		return fmt.Errorf("read PE file: certificate table at %d of %d bytes does not end the file of %d", f.certOff, f.certLen, len(f.data))
	}
	return nil
}

// readSections refuses sections that overlap or reach outside the file.
func (f *file) readSections(count int) error {
	for i := range count {
		h := f.data[f.table+i*sectionSize:][:sectionSize]
		s := section{
			name:        cString(h[:8]),
			virtualSize: le.Uint32(h[8:]), address: le.Uint32(h[12:]),
			rawSize: le.Uint32(h[16:]), rawOff: le.Uint32(h[20:]),
		}
		f.sections = append(f.sections, s)
	}
	inFile := slices.Clone(f.sections)
	slices.SortStableFunc(inFile, func(a, b section) int { return int(int64(a.rawOff) - int64(b.rawOff)) })
	end := int64(f.headers)
	for _, s := range inFile {
		if s.rawSize == 0 {
			continue
		}
		if int64(s.rawOff) < end || int64(s.rawOff)+int64(s.rawSize) > int64(f.certOff) {
			return fmt.Errorf("read PE file: section %s at %d of %d bytes overlaps another or leaves the file", s.name, s.rawOff, s.rawSize)
		}
		end = int64(s.rawOff) + int64(s.rawSize)
	}
	return nil
}

// content returns what a section holds, without its padding.
func (f *file) content(s section) []byte {
	return f.data[s.rawOff:][:min(s.rawSize, s.virtualSize)]
}

func (f *file) machine() uint16 { return le.Uint16(f.data[f.opt-coffSize+machineOffset:]) }

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// checksum is the PE checksum: the sum of all 16-bit words, the checksum's
// own as zero, with carries folded in, plus the file's length.
func (f *file) checksum() uint32 {
	var sum uint64
	at := f.opt + optCheckSum
	for i := 0; i+1 < len(f.data); i += 2 {
		if i != at && i != at+2 {
			sum += uint64(le.Uint16(f.data[i:]))
		}
	}
	if len(f.data)%2 == 1 {
		sum += uint64(f.data[len(f.data)-1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint32(sum) + uint32(len(f.data))
}

func (f *file) setChecksum() { le.PutUint32(f.data[f.opt+optCheckSum:], f.checksum()) }
