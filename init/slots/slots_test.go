package slots

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/verity"
)

const esp = "11111111-2222-3333-4444-555555555555"

// table has our partitions, one megabyte each, for the given roles.
func table(t testing.TB, roles ...layout.Role) *gpt.Table {
	t.Helper()
	parts, err := layout.Partitions("amd64")
	if err != nil {
		t.Fatal(err)
	}
	out := &gpt.Table{}
	for _, p := range parts {
		for _, r := range roles {
			if r != p.Role {
				continue
			}
			typ, err := gpt.ParseGUID(p.Type)
			if err != nil {
				t.Fatal(err)
			}
			start := uint64(p.Index) * 2048
			out.Partitions = append(out.Partitions, gpt.Partition{Index: p.Index, Type: typ, Name: p.Name, Start: start, End: start + 2047})
		}
	}
	return out
}

func withESP(t testing.TB, tab *gpt.Table, guid string) *gpt.Table {
	t.Helper()
	g, err := gpt.ParseGUID(guid)
	if err != nil {
		t.Fatal(err)
	}
	tab.Partitions[0].GUID = g
	return tab
}

func TestChooseDisk(t *testing.T) {
	ours := func() *gpt.Table { return table(t, layout.ESP, layout.RootA) }
	other := table(t, layout.ESP)
	for _, tc := range []struct {
		name     string
		disks    []Disk
		partUUID string
		want     string
		err      error
	}{
		{"firmware's word", []Disk{{"sda", ours()}, {"sdb", withESP(t, ours(), esp)}}, strings.ToUpper(esp), "sdb", nil},
		{"only one is ours", []Disk{{"sda", other}, {"vda", ours()}}, "", "vda", nil},
		{"two are ours", []Disk{{"sda", ours()}, {"vda", ours()}}, "", "", errTwo},
		{"not there yet", []Disk{{"sda", ours()}}, esp, "", errNoDisk},
		{"a copy of the disk", []Disk{{"sda", withESP(t, ours(), esp)}, {"sdb", withESP(t, ours(), esp)}}, esp, "", errTwo},
		{"none", nil, "", "", errNoDisk},
	} {
		got, err := chooseDisk(tc.disks, "amd64", tc.partUUID)
		if got.Name != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: got %q, %v, want %q, %v", tc.name, got.Name, err, tc.want, tc.err)
		}
	}
}

// release is one data block, its superblock and its one-block tree.
func release(content string) ([]byte, verity.Pin) {
	p, le := make([]byte, 3*layout.VerityBlock), binary.LittleEndian
	copy(p, content)
	leaf := sha256.Sum256(p[:layout.VerityBlock])
	copy(p[2*layout.VerityBlock:], leaf[:])
	root := sha256.Sum256(p[2*layout.VerityBlock:])
	super := p[layout.VerityBlock:]
	copy(super, "verity")
	for off, v := range map[int]uint32{8: 1, 12: 1, 64: layout.VerityBlock, 68: layout.VerityBlock, 72: 1} {
		le.PutUint32(super[off:], v)
	}
	copy(super[32:], layout.VerityHash)
	return p, verity.Pin{RootHash: root[:], DataBlocks: 1}
}

func TestChooseSlot(t *testing.T) {
	d := Disk{"vda", table(t, layout.ESP, layout.RootA, layout.RootB)}
	one, pinOne := release("one")
	two, pinTwo := release("two")
	_, pinThree := release("three")
	disk := make([]byte, 8*layout.MiB)
	copy(disk[2*layout.MiB:], one)
	copy(disk[3*layout.MiB:], two)
	for _, tc := range []struct {
		pin  verity.Pin
		want layout.Role
		err  error
	}{{pinOne, layout.RootA, nil}, {pinTwo, layout.RootB, nil}, {pinThree, "", ErrNoSlot}} {
		got, err := chooseSlot(d, "amd64", tc.pin, bytes.NewReader(disk))
		if !errors.Is(err, tc.err) || err == nil && got.Role != tc.want {
			t.Errorf("got %+v, %v, want %q, %v", got, err, tc.want, tc.err)
		}
	}
	copy(disk[3*layout.MiB:], one) // the same release in both
	if got, err := chooseSlot(d, "amd64", pinOne, bytes.NewReader(disk)); err != nil || got.Role != layout.RootA {
		t.Errorf("got %+v, %v, want root-a", got, err)
	}
	if _, err := chooseSlot(Disk{"vda", table(t, layout.ESP, layout.RootA)}, "amd64", pinTwo, io.NewSectionReader(bytes.NewReader(disk), 0, 8*layout.MiB)); err == nil || !strings.Contains(err.Error(), "root-b: not there") {
		t.Errorf("got %v, want it to say that root-b is not there", err)
	}
}

func variable(s string) *fstest.MapFile {
	b := []byte{6, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return &fstest.MapFile{Data: b}
}

func TestReadWords(t *testing.T) {
	got, err := ReadWords(fstest.MapFS{
		"StubDevicePartUUID-" + loaderGUID:  variable("stub"),
		"StubImageIdentifier-" + loaderGUID: variable(`\EFI\Linux\x.efi`),
	})
	if want := (Words{PartUUID: "stub", Stub: `\EFI\Linux\x.efi`}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := ReadWords(fstest.MapFS{"LoaderDevicePartUUID-" + loaderGUID: {Data: []byte{1}}}); err == nil {
		t.Errorf("got %+v for a broken variable, want an error", got)
	}
}

func TestRunningFile(t *testing.T) {
	for stub, want := range map[string]string{
		`\EFI\Linux\w-2+2-1.efi`: "w-2+2-1.efi",
		`/EFI/LINUX/w-1.efi`:     "w-1.efi",
		`\EFI\BOOT\BOOTX64.EFI`:  "",
		`\EFI\Linux\..\w.efi`:    "",
		``:                       "",
	} {
		if got := (Words{Stub: stub}).RunningFile(); got != want {
			t.Errorf("%s: got %q, want %q", stub, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add(variable("x").Data)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := text(b)
		if err != nil {
			return
		}
		if file := (Words{Stub: s}).RunningFile(); strings.Contains(file, "/") {
			t.Errorf("got %q, which is no file name", file)
		}
	})
}
