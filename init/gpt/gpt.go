// Package gpt reads and writes GUID partition tables (UEFI 2.10, chapter 5)
// on a disk that is in use: it knows the bytes and the order in which a
// power cut may interrupt them, and nothing of what partitions are for.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

const (
	// Sector is the logical sector size in bytes; others are not handled.
	Sector = 512

	headerSize   = 92
	entrySize    = 128
	entryCount   = 128
	entriesBytes = entrySize * entryCount
	entriesSecs  = entriesBytes / Sector // 32
	nameUnits    = 36                    // UTF-16 code units of a name

	primaryHeader  = 1
	primaryEntries = 2
	// spareEntries holds the entries while those at primaryEntries are
	// rewritten; see Write. It ends at sector 66.
	spareEntries = primaryEntries + entriesSecs
	firstUsable  = primaryEntries + entriesSecs
)

// ErrNone says that a disk carries no readable table, neither at its start
// nor at its end.
var ErrNone = errors.New("no GUID partition table")

// Partition is one entry. Start and End are sectors, both included.
type Partition struct {
	Index      int // from 1
	Type, GUID GUID
	Start, End uint64
	Attributes uint64
	Name       string
}

// Size is the partition's size in bytes.
func (p Partition) Size() int64 { return int64(p.End-p.Start+1) * Sector }

// Offset is the partition's distance from the start of the disk in bytes.
func (p Partition) Offset() int64 { return int64(p.Start) * Sector }

// Table is the content of a GUID partition table.
type Table struct {
	GUID       GUID
	Partitions []Partition // by Index
	// Alternate is the sector of the other copy as the copy that was read
	// names it: the disk's last sector once the table fills the disk.
	Alternate uint64
	// Degraded says that the primary copy was unreadable and this is the
	// backup's content.
	Degraded bool
	// Moved says that the entries were found where Write keeps them while it
	// works: it was interrupted, and writing the table again finishes it.
	Moved bool
}

// Find returns the partition with the given type and name.
func (t *Table) Find(typ GUID, name string) (Partition, bool) {
	for _, p := range t.Partitions {
		if p.Type == typ && p.Name == name {
			return p, true
		}
	}
	return Partition{}, false
}

// Clone is a copy that shares nothing.
func (t *Table) Clone() *Table {
	c := *t
	c.Partitions = slices.Clone(t.Partitions)
	return &c
}

// Read reads the table of a disk of the given size in sectors: the primary
// copy, else the backup in the disk's last sector. An unreadable table is ErrNone; what r says of a read
// that fails altogether is returned as it is.
func Read(r io.ReaderAt, sectors uint64) (*Table, error) {
	t, err := readCopy(r, primaryHeader, sectors)
	if err == nil {
		return t, nil
	}
	if !errors.Is(err, ErrNone) {
		return nil, err
	}
	if sectors < 2*entriesSecs+4 {
		return nil, err
	}
	t, backup := readCopy(r, sectors-1, sectors)
	if backup != nil {
		return nil, fmt.Errorf("%w: at the start: %v; at the end: %v", ErrNone, err, backup)
	}
	t.Degraded = true
	t.Alternate = sectors - 1
	return t, nil
}

func readCopy(r io.ReaderAt, at, sectors uint64) (*Table, error) {
	head := make([]byte, Sector)
	if _, err := r.ReadAt(head, int64(at)*Sector); err != nil {
		return nil, fmt.Errorf("read sector %d: %w", at, err)
	}
	h, err := parseHeader(head, at)
	if err != nil {
		return nil, err
	}
	if h.entriesAt < 2 || h.entriesAt >= sectors {
		return nil, fmt.Errorf("%w: entries at sector %d of %d", ErrNone, h.entriesAt, sectors)
	}
	raw := make([]byte, int(h.count)*int(h.size))
	if _, err := r.ReadAt(raw, int64(h.entriesAt)*Sector); err != nil {
		return nil, fmt.Errorf("read entries at sector %d: %w", h.entriesAt, err)
	}
	if got := crc32.ChecksumIEEE(raw); got != h.entriesCRC {
		return nil, fmt.Errorf("%w: checksum of the entries at sector %d", ErrNone, h.entriesAt)
	}
	t := &Table{GUID: h.guid, Alternate: h.alternate, Moved: at == primaryHeader && h.entriesAt == spareEntries}
	t.Partitions, err = parseEntries(raw, int(h.size), sectors)
	return t, err
}

type header struct {
	alternate, entriesAt    uint64
	guid                    GUID
	count, size, entriesCRC uint32
}

var signature = []byte("EFI PART")

func parseHeader(b []byte, at uint64) (header, error) {
	le := binary.LittleEndian
	if !bytes.Equal(b[:8], signature) {
		return header{}, fmt.Errorf("%w: no signature in sector %d", ErrNone, at)
	}
	n := le.Uint32(b[12:])
	if n < headerSize || n > Sector {
		return header{}, fmt.Errorf("%w: header of %d bytes in sector %d", ErrNone, n, at)
	}
	c := bytes.Clone(b[:n])
	clear(c[16:20])
	if crc32.ChecksumIEEE(c) != le.Uint32(b[16:]) {
		return header{}, fmt.Errorf("%w: checksum of the header in sector %d", ErrNone, at)
	}
	h := header{
		alternate: le.Uint64(b[32:]), guid: GUID(b[56:72]), entriesAt: le.Uint64(b[72:]),
		count: le.Uint32(b[80:]), size: le.Uint32(b[84:]), entriesCRC: le.Uint32(b[88:]),
	}
	if le.Uint64(b[24:]) != at {
		return header{}, fmt.Errorf("%w: header in sector %d says it lies elsewhere", ErrNone, at)
	}
	if h.size < entrySize || h.size > 4096 || h.count == 0 || h.count > 1024 {
		return header{}, fmt.Errorf("%w: %d entries of %d bytes", ErrNone, h.count, h.size)
	}
	return h, nil
}

func parseEntries(raw []byte, size int, sectors uint64) ([]Partition, error) {
	le := binary.LittleEndian
	var all []Partition
	for i := 0; (i+1)*size <= len(raw); i++ {
		b := raw[i*size:]
		p := Partition{
			Index: i + 1, Type: GUID(b[:16]), GUID: GUID(b[16:32]),
			Start: le.Uint64(b[32:]), End: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:]),
		}
		if p.Type == (GUID{}) {
			continue
		}
		if p.Start < 2 || p.End < p.Start || p.End >= sectors {
			return nil, fmt.Errorf("%w: partition %d spans sectors %d to %d of %d",
				ErrNone, p.Index, p.Start, p.End, sectors)
		}
		units := make([]uint16, nameUnits)
		for j := range units {
			units[j] = le.Uint16(b[56+2*j:])
		}
		if end := slices.Index(units, 0); end >= 0 {
			units = units[:end]
		}
		p.Name = string(utf16.Decode(units))
		all = append(all, p)
	}
	return all, nil
}

// GUID is a GUID in the byte order of the disk (first three fields little
// endian).
type GUID [16]byte

// guidOrder maps the digits of the text form to bytes on the disk.
var guidOrder = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// String gives the text form in lower case, as PARTUUID has it.
func (g GUID) String() string {
	var t [16]byte
	for i, at := range guidOrder {
		t[i] = g[at]
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", t[:4], t[4:6], t[6:8], t[8:10], t[10:])
}

// ParseGUID reads the text form, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	bare := strings.ReplaceAll(s, "-", "")
	if len(s) != 36 || len(bare) != 32 {
		return g, fmt.Errorf("parse GUID %q: want 8-4-4-4-12 hexadecimal digits", s)
	}
	for i, at := range guidOrder {
		if _, err := fmt.Sscanf(bare[2*i:2*i+2], "%02x", &g[at]); err != nil {
			return GUID{}, fmt.Errorf("parse GUID %q: want hexadecimal digits", s)
		}
	}
	return g, nil
}

// NewGUID makes a random GUID (RFC 9562 version 4) from the given source.
func NewGUID(random io.Reader) (GUID, error) {
	var g GUID
	if _, err := io.ReadFull(random, g[:]); err != nil {
		return g, fmt.Errorf("make GUID: %w", err)
	}
	g[7] = g[7]&0x0f | 0x40 // version: high byte of the third field, stored last
	g[8] = g[8]&0x3f | 0x80
	return g, nil
}
