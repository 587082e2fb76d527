package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/imagetest"
)

const mib = 1 << 20

var volume = disk.FATVolume{
	Size: 64 * mib, Label: "WAYSIDE", Serial: 0x1234abcd, Time: time.Unix(1_760_000_000, 0), Hidden: 2048,
}

func files(t testing.TB) []disk.FATFile {
	return []disk.FATFile{
		{Path: "EFI/BOOT/BOOTX64.EFI", Data: imagetest.Noise(t, 10_000)},
		{Path: "EFI/Linux/wayside-1.0.0.efi", Data: imagetest.Noise(t, 3*mib+1)},
		{Path: "loader/loader.conf", Data: []byte("timeout 0\n")},
		{Path: "empty", Data: nil},
		{Path: "exact", Data: imagetest.Noise(t, 4096)},
		{Path: "a name longer than two entries can hold, with blanks.text", Data: []byte("x")},
		{Path: "Grüße/ß€😀.txt", Data: []byte("y")},
	}
}

// writeFAT writes a volume to a sparse file and returns it open.
func writeFAT(t testing.TB, v disk.FATVolume, all []disk.FATFile) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fat"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(v.Size); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFAT(f, v, all); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t testing.TB, f *os.File, size int64) map[string]string {
	t.Helper()
	vol, err := disk.OpenFAT(f, size)
	if err != nil {
		t.Fatal(err)
	}
	list, err := vol.List()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, info := range list {
		data, err := vol.ReadFile(info.Path)
		if err != nil {
			t.Fatal(err)
		}
		if !info.Time.Equal(volume.Time) {
			t.Errorf("%s: time %v, want %v", info.Path, info.Time, volume.Time)
		}
		got[info.Path] = string(data)
	}
	return got
}

func contents(all []disk.FATFile) map[string]string {
	want := map[string]string{}
	for _, f := range all {
		want[f.Path] = string(f.Data)
	}
	return want
}

func fsck(t testing.TB, f *os.File) {
	t.Helper()
	out := imagetest.Run(t, "fsck.vfat", "-n", "-v", f.Name())
	for _, bad := range []string{"differ", "Dirty", "wrong", "uninitialized", "bad"} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(bad)) {
			t.Errorf("fsck.vfat complains:\n%s", out)
		}
	}
}

func TestFATReadsBackAsWritten(t *testing.T) {
	all := files(t)
	if diff := cmp.Diff(contents(all), read(t, writeFAT(t, volume, all), volume.Size)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// Sizes around which the cluster size changes, and the 64 MiB that another
// writer gets wrong.
func TestFATForeignCheck(t *testing.T) {
	for _, size := range []int64{33 * mib, 34 * mib, 64 * mib, 65 * mib, 128 * mib, 129 * mib, 256 * mib, 300 * mib, 1024 * mib} {
		t.Run(fmt.Sprint(size/mib), func(t *testing.T) {
			v := volume
			v.Size = size
			all := files(t)
			f := writeFAT(t, v, all)
			fsck(t, f)
			for _, want := range all {
				if strings.Contains(want.Path, "ß") {
					continue // mtools' idea of a name depends on the locale
				}
				out := filepath.Join(t.TempDir(), "out")
				imagetest.Run(t, "mcopy", "-n", "-i", f.Name(), "::"+want.Path, out)
				if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want.Data) {
					t.Errorf("mcopy of %s: %d bytes, %v; want %d as written", want.Path, len(got), err, len(want.Data))
				}
			}
		})
	}
}

func TestFATFolderOfManyFiles(t *testing.T) {
	var all []disk.FATFile
	for i := range 300 {
		all = append(all, disk.FATFile{Path: fmt.Sprintf("EFI/some folder/a long name, number %d.conf", i), Data: []byte{byte(i)}})
	}
	f := writeFAT(t, volume, all)
	if diff := cmp.Diff(contents(all), read(t, f, volume.Size)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	fsck(t, f)
}

func TestFATIsReproducibleAndSparse(t *testing.T) {
	all := files(t)
	v := volume
	v.Size = 1024 * mib
	a := writeFAT(t, v, all)
	all[0], all[3] = all[3], all[0]
	b := writeFAT(t, v, all)
	imagetest.Run(t, "cmp", a.Name(), b.Name())
	if got := imagetest.Run(t, "du", "--block-size=1M", a.Name()); !(got[0] >= '0' && got[0] <= '9') || len(strings.Fields(got)[0]) > 2 {
		t.Errorf("a volume of 1 GiB with 3 MiB of files takes %s MiB", got)
	}
}

func TestFATRefuses(t *testing.T) {
	big := disk.FATFile{Path: "big", Data: make([]byte, 64*mib)}
	for name, c := range map[string]struct {
		size  int64
		label string
		files []disk.FATFile
	}{
		"too small a volume":   {size: 16 * mib},
		"half a sector":        {size: 64*mib + 256},
		"more than fits":       {size: 64 * mib, files: []disk.FATFile{big}},
		"names equal but case": {size: 64 * mib, files: []disk.FATFile{{Path: "efi/A"}, {Path: "efi/a"}}},
		"file and folder":      {size: 64 * mib, files: []disk.FATFile{{Path: "a"}, {Path: "a/b"}}},
		"absolute path":        {size: 64 * mib, files: []disk.FATFile{{Path: "/a"}}},
		"character of DOS":     {size: 64 * mib, files: []disk.FATFile{{Path: "a:b"}}},
		"dot at the end":       {size: 64 * mib, files: []disk.FATFile{{Path: "a."}}},
		"long label":           {size: 64 * mib, label: "TWELVE-CHARS"},
		"small label":          {size: 64 * mib, label: "wayside"},
	} {
		v := disk.FATVolume{Size: c.size, Label: c.label}
		if err := disk.WriteFAT(discard{}, v, c.files); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestPutFile(t *testing.T) {
	all := files(t)
	volume := volume
	volume.Reserved = map[int64][]byte{16: []byte("of no file")}
	f := writeFAT(t, volume, all)
	for _, c := range []struct {
		path string
		data []byte
	}{
		{"wayside/site.yaml", []byte("site: shop\n")},
		{"wayside/site.yaml", bytes.Repeat([]byte("site: larger\n"), 1000)},
		{"loader/loader.conf", []byte{}},
		{"EFI/Linux/wayside-1.0.0.efi", nil},
	} {
		if err := disk.PutFile(f, volume.Size, c.path, c.data, volume.Time); err != nil {
			t.Fatal(err)
		}
		want := contents(all)
		want[c.path] = string(c.data)
		if c.data == nil {
			delete(want, c.path)
		}
		got := read(t, f, volume.Size)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", c.path, diff)
		}
		all = nil
		for path, data := range got {
			all = append(all, disk.FATFile{Path: path, Data: []byte(data)})
		}
		fsck(t, f)
	}
	vol, err := disk.OpenFAT(f, volume.Size)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := vol.Reserved(16); err != nil || !bytes.HasPrefix(kept, []byte("of no file\x00")) {
		t.Errorf("the reserved sector holds %.20q, %v", kept, err)
	}
	if _, err := vol.ReadFile("nosuch"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a file that is not there: got %v, want fs.ErrNotExist", err)
	}
	if _, err := vol.ReadFile("WAYSIDE/SITE.YAML"); err != nil {
		t.Errorf("case matters to ReadFile: %v", err)
	}
}

// What others write, with names in capitals and holes in folders, is read.
func TestFATReadsWhatMtoolsWrites(t *testing.T) {
	f := writeFAT(t, volume, files(t))
	src := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(src, []byte("site: shop\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	imagetest.Run(t, "mdel", "-i", f.Name(), "::exact")
	imagetest.Run(t, "mmd", "-i", f.Name(), "::wayside")
	imagetest.Run(t, "mcopy", "-i", f.Name(), src, "::wayside/site.yaml")
	imagetest.Run(t, "mcopy", "-i", f.Name(), src, "::SITE.YML")
	vol, err := disk.OpenFAT(f, volume.Size)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"wayside/site.yaml", "SITE.YML"} {
		if got, err := vol.ReadFile(path); err != nil || string(got) != "site: shop\n" {
			t.Errorf("%s: got %q, %v", path, got, err)
		}
	}
	if _, err := vol.ReadFile("exact"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed file: got %v, want fs.ErrNotExist", err)
	}
}

func FuzzFAT(f *testing.F) {
	v := volume
	v.Size = 33 * mib
	img, err := os.ReadFile(writeFAT(f, v, []disk.FATFile{{Path: "EFI/a long name.efi", Data: []byte("x")}, {Path: "B", Data: []byte("y")}}).Name())
	if err != nil {
		f.Fatal(err)
	}
	// Only the start of the volume is the fuzzer's: boot sector, then FAT and
	// folders with all between them left out.
	const fat, data = 32 * 512, 32*512 + 2*521*512
	f.Add(img[:512], img[fat:fat+64], img[data:data+4096])
	f.Fuzz(func(t *testing.T, boot, table, folders []byte) {
		img := make([]byte, 2*mib)
		copy(img[data:], folders)
		copy(img[fat:], table[:min(len(table), 4096)])
		copy(img, boot[:min(len(boot), 512)])
		vol, err := disk.OpenFAT(bytes.NewReader(img), int64(33*mib))
		if err != nil {
			return
		}
		list, err := vol.List()
		if err != nil {
			return
		}
		for _, info := range list[:min(len(list), 10)] {
			if got, err := vol.ReadFile(info.Path); err == nil && len(got) > len(img) {
				t.Errorf("%s: %d bytes out of %d", info.Path, len(got), len(img))
			}
		}
	})
}
