package gpt

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testSectors = 8192

// memory is a disk in memory.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(m)) {
		return 0, io.EOF
	}
	return copy(p, m[off:]), nil
}
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Sync() error                              { return nil }

func sample() *Table {
	g := func(b byte) GUID { return GUID(bytes.Repeat([]byte{b}, 16)) }
	return &Table{
		GUID:      g(9),
		Alternate: testSectors - 1,
		Partitions: []Partition{
			{Index: 1, Type: g(1), GUID: g(2), Start: 2048, End: 4095, Name: "boot"},
			{Index: 4, Type: g(3), GUID: g(4), Start: 4096, End: 6143, Attributes: 1 << 60, Name: "größe"},
		},
	}
}

func written(t testing.TB) memory {
	t.Helper()
	d := make(memory, testSectors*Sector)
	if err := Write(d, testSectors, sample()); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWriteRead(t *testing.T) {
	got, err := Read(written(t), testSectors)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), got); diff != "" {
		t.Errorf("table read back differs (-want +got):\n%s", diff)
	}
}

func TestBootProgramStays(t *testing.T) {
	d := written(t)
	program := bytes.Repeat([]byte("boot"), 110)
	copy(d, program)
	if err := Write(d, testSectors, sample()); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(d, program) || d[446+4] != 0xee || d[510] != 0x55 {
		t.Errorf("the first sector lost its boot program or its table: %x", d[:Sector])
	}
}

// TestHybridStays: the Raspberry Pi's boot ROM finds the boot partition by the
// second entry.
func TestHybridStays(t *testing.T) {
	d := written(t)
	copy(d[446+16:], []byte{0, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 8, 0, 0})
	want := bytes.Clone(d[:Sector])
	if err := Write(d, testSectors, sample()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d[:Sector], want) {
		t.Errorf("the hybrid table in the first sector was changed to %x", d[446:Sector])
	}
}

func TestReadFallsBack(t *testing.T) {
	for name, sector := range map[string]int{"header": primaryHeader, "entries": primaryEntries} {
		t.Run(name, func(t *testing.T) {
			d := written(t)
			d[sector*Sector+20] ^= 1
			got, err := Read(d, testSectors)
			if err != nil {
				t.Fatal(err)
			}
			want := sample()
			want.Degraded = true
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("backup differs (-want +got):\n%s", diff)
			}
			d[(testSectors-1)*Sector] ^= 1
			if _, err := Read(d, testSectors); !errors.Is(err, ErrNone) {
				t.Errorf("got %v with both copies broken, want ErrNone", err)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Table){
		"index twice":   func(t *Table) { t.Partitions[1].Index = 1 },
		"over the end":  func(t *Table) { t.Partitions[1].End = testSectors - 10 },
		"over the head": func(t *Table) { t.Partitions[0].Start = 3 },
		"long name":     func(t *Table) { t.Partitions[0].Name = strings.Repeat("x", 37) },
	} {
		table := sample()
		spoil(table)
		d := make(memory, testSectors*Sector)
		if err := Write(d, testSectors, table); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
		if !bytes.Equal(d, make([]byte, len(d))) {
			t.Errorf("%s: the disk was written before the table was checked", name)
		}
	}
}

func TestGUIDText(t *testing.T) {
	const esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	g, err := ParseGUID(strings.ToUpper(esp))
	if err != nil {
		t.Fatal(err)
	}
	if g[0] != 0x28 || g[15] != 0x3b || g.String() != esp {
		t.Errorf("got %v (first byte %#x), want %s with first byte 0x28", g, g[0], esp)
	}
	for _, bad := range []string{"", esp[1:], "g" + esp[1:], strings.Repeat("-", 36)} {
		if _, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q): got no error, want one", bad)
		}
	}
	r, err := NewGUID(bytes.NewReader(bytes.Repeat([]byte{0xff}, 16)))
	if err != nil || r.String() != "ffffffff-ffff-4fff-bfff-ffffffffffff" {
		t.Errorf("got %v, %v, want a version 4 GUID", r, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(written(f)[:66*Sector]))
	f.Add([]byte("EFI PART"))
	f.Fuzz(func(t *testing.T, head []byte) {
		d := make(memory, testSectors*Sector)
		copy(d, head)
		table, err := Read(d, testSectors)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.End < p.Start || p.End >= testSectors {
				t.Errorf("partition %d spans %d to %d of a disk of %d sectors", p.Index, p.Start, p.End, testSectors)
			}
		}
	})
}
