package disk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/imagetest"
)

var table = disk.Table{
	GUID: "248F132A-15EE-8E12-96CF-1A055CD33402",
	Boot: disk.BIOSNotice,
	Partitions: []disk.Partition{
		{Index: 1, Name: "wayside-esp", Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", GUID: "ACC07347-505D-87A3-A62F-4BFE9D442E11", Start: mib, Size: mib},
		{Index: 2, Name: "wayside-root-a", Type: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", GUID: "17208C47-5029-8785-9122-5B29587A8CDA", Start: 2 * mib, Size: mib, Attributes: 1 << 60},
	},
}

const diskSize = 4 * mib

func writeGPT(t *testing.T) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteGPT(f, diskSize, table); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGPTReadsBackAsWritten(t *testing.T) {
	got, err := disk.ReadGPT(bytes.NewReader(writeGPT(t)), diskSize)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(table, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// An image keeps its partition table on a larger disk.
func TestGPTMadeFor(t *testing.T) {
	larger := append(writeGPT(t), make([]byte, mib)...)
	for _, tt := range []struct {
		disk []byte
		want int64
	}{
		{larger, diskSize},
		{larger[:diskSize], diskSize},
		{larger[:diskSize-mib], diskSize - mib}, // cut short: nothing smaller is claimed
		{make([]byte, mib), mib},
		{nil, 0},
	} {
		if got := disk.MadeFor(bytes.NewReader(tt.disk), int64(len(tt.disk))); got != tt.want {
			t.Errorf("disk of %d bytes: got %d, want %d", len(tt.disk), got, tt.want)
		}
	}
}

func TestGPTForeignCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, writeGPT(t), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := imagetest.Run(t, "sgdisk", "--verify", file); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk --verify:\n%s", out)
	}
	out := imagetest.Run(t, "sgdisk", "--info=2", file)
	for _, want := range []string{table.Partitions[1].GUID, table.Partitions[1].Type, "Attribute flags: 1000000000000000", "'wayside-root-a'", "First sector: 4096"} {
		if !strings.Contains(out, want) {
			t.Errorf("sgdisk does not show %q:\n%s", want, out)
		}
	}
}

// TestHybridGPT has firmware that knows only the table of old find the first
// partition, and everybody else the GPT.
func TestHybridGPT(t *testing.T) {
	hybrid := table
	hybrid.Hybrid, hybrid.Boot = true, ""
	file, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := errors.Join(file.Truncate(diskSize), disk.WriteGPT(file, diskSize, hybrid)); err != nil {
		t.Fatal(err)
	}
	got, err := disk.ReadGPT(file, diskSize)
	if diff := cmp.Diff(hybrid, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	mbr := make([]byte, 512)
	if _, err := file.ReadAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	first, named := table.Partitions[0], mbr[446+16:]
	if start, n := binary.LittleEndian.Uint32(named[8:]), binary.LittleEndian.Uint32(named[12:]); named[4] != 0x0c || int64(start) != first.Start/512 || int64(n) != first.Size/512 {
		t.Errorf("the table of old names type %#x, sectors %d and %d more, want FAT32 and those of %+v", named[4], start, n, first)
	}
	if out := imagetest.Run(t, "sgdisk", "--verify", file.Name()); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk --verify:\n%s", out)
	}
	if _, err := file.WriteAt([]byte{0x83}, 446+2*16+4); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.ReadGPT(file, diskSize); err == nil {
		t.Error("a table of old that names more than the GPT is accepted")
	}
}

func TestGPTRefusesAlteredBytes(t *testing.T) {
	data := writeGPT(t)
	backup := len(data) - 33*512
	for what, at := range map[string]int{
		"MBR signature": 510, "MBR type": 446 + 4, "header": 512 + 40, "header checksum": 512 + 16, "first entry": 1024 + 60, "last entry": 34*512 - 1,
		"backup entry": backup + 3, "backup header": len(data) - 512 + 72,
	} {
		bad := bytes.Clone(data)
		bad[at] ^= 4
		if _, err := disk.ReadGPT(bytes.NewReader(bad), diskSize); err == nil {
			t.Errorf("%s altered, and nothing said", what)
		}
	}
	if _, err := disk.ReadGPT(bytes.NewReader(data[:diskSize-mib]), diskSize-mib); err == nil {
		t.Error("a disk that was cut is accepted")
	}
}

func TestGPTRefusesToWrite(t *testing.T) {
	for name, change := range map[string]func(*disk.Table){
		"no disk GUID":           func(t *disk.Table) { t.GUID = "" },
		"no partition GUID":      func(t *disk.Table) { t.Partitions[0].GUID = "" },
		"overlap":                func(t *disk.Table) { t.Partitions[0].Size += 512 },
		"part of a sector":       func(t *disk.Table) { t.Partitions[1].Size -= 1 },
		"over the backup":        func(t *disk.Table) { t.Partitions[1].Size = 2 * mib },
		"over the primary table": func(t *disk.Table) { t.Partitions[0].Start = 512 },
	} {
		bad := disk.Table{GUID: table.GUID, Partitions: append([]disk.Partition(nil), table.Partitions...)}
		change(&bad)
		if err := disk.WriteGPT(discard{}, diskSize, bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzReadGPT(f *testing.F) {
	f.Add([]byte{0x55, 0xaa}, []byte("EFI PART"))
	f.Fuzz(func(t *testing.T, mbr, header []byte) {
		data := make([]byte, diskSize)
		copy(data[512:1024], header)
		copy(data[:512], mbr)
		data[510], data[511] = 0x55, 0xaa
		if got, err := disk.ReadGPT(bytes.NewReader(data), diskSize); err == nil {
			for _, p := range got.Partitions {
				if p.Start < 0 || p.Start+p.Size > diskSize {
					t.Errorf("partition outside the disk: %+v", p)
				}
			}
		}
	})
}
