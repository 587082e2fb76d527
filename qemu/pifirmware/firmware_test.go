package pifirmware_test

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/qemu/pifirmware"
)

const (
	mib      = int64(1) << 20
	diskSize = 84 * mib
	tree     = "\xd0\x0d\xfe\xed tree"
)

// shipped is a boot partition as an image of ours has it, in small.
func shipped() map[string]string {
	return map[string]string{
		"bootcode.bin": "ROM's next", "start.elf": "\x7fELF", "fixup.dat": "x", "start4.elf": "\x7fELF4", "fixup4.dat": "x",
		"u-boot.bin": "U-Boot", "bcm2837-rpi-3-b.dtb": tree + "3", "bcm2711-rpi-4-b.dtb": tree + "4",
		"config.txt": "arm_64bit=1\nkernel=u-boot.bin\nupstream_kernel=1\nenable_uart=1\n",
	}
}

// with changes files of the shipped ones; "" removes one.
func with(changes ...string) map[string]string {
	files := shipped()
	for i := 0; i+1 < len(changes); i += 2 {
		if files[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(files, changes[i])
		}
	}
	return files
}

// makeDisk writes up to two partitions of FAT.
func makeDisk(t *testing.T, hybrid bool, parts ...map[string]string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	table := disk.Table{GUID: "4F3EE249-B1D7-8C8B-B94A-599AED0B29BE", Hybrid: hybrid}
	for i, files := range parts {
		p := disk.Partition{Index: i + 1, Name: "p", Type: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", GUID: "78F0BE09-B1D1-88F1-96C3-B8719BDC1C1" + string(rune('0'+i)), Start: mib + int64(i)*41*mib, Size: 40 * mib}
		table.Partitions = append(table.Partitions, p)
		var list []disk.FATFile
		for _, name := range slices.Sorted(maps.Keys(files)) {
			list = append(list, disk.FATFile{Path: name, Data: []byte(files[name])})
		}
		if err := disk.WriteFAT(io.NewOffsetWriter(f, p.Start), disk.FATVolume{Size: p.Size, Label: "BOOT"}, list); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(diskSize), disk.WriteGPT(f, diskSize, table)); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestStart(t *testing.T) {
	long := strings.Repeat("x", 90)
	for _, c := range []struct {
		name    string
		model   pifirmware.Model
		files   map[string]string
		tryboot bool
		program string // "" for none
		tree    string
		notes   int
	}{
		{"as shipped, 3B", pifirmware.Pi3B, shipped(), false, "U-Boot", tree + "3", 0},
		{"as shipped, 4B", pifirmware.Pi4B, shipped(), false, "U-Boot", tree + "4", 0},
		{"no bootcode.bin, 3B", pifirmware.Pi3B, with("bootcode.bin", ""), false, "", "", 0},
		{"no bootcode.bin, 4B", pifirmware.Pi4B, with("bootcode.bin", ""), false, "U-Boot", tree + "4", 0},
		{"no start file", pifirmware.Pi4B, with("start4.elf", ""), false, "", "", 0},
		{"start file is garbage", pifirmware.Pi3B, with("start.elf", "hello"), false, "", "", 0},
		{"the other model's start file is", pifirmware.Pi3B, with("start4.elf", "hello"), false, "U-Boot", tree + "3", 0},
		{"no fixup", pifirmware.Pi3B, with("fixup.dat", ""), false, "U-Boot", tree + "3", 1},
		{"no program", pifirmware.Pi3B, with("u-boot.bin", ""), false, "", "", 0},
		{"no device tree", pifirmware.Pi3B, with("bcm2837-rpi-3-b.dtb", ""), false, "U-Boot", "", 1},
		{"device tree is garbage", pifirmware.Pi3B, with("bcm2837-rpi-3-b.dtb", "hello"), false, "U-Boot", "", 1},
		{"the downstream tree will do", pifirmware.Pi3B, with("bcm2837-rpi-3-b.dtb", "", "bcm2710-rpi-3-b.dtb", tree+"d"), false, "U-Boot", tree + "d", 0},
		{"the upstream tree is preferred", pifirmware.Pi3B, with("bcm2710-rpi-3-b.dtb", tree+"d"), false, "U-Boot", tree + "3", 0},
		{"or not", pifirmware.Pi3B, with("bcm2710-rpi-3-b.dtb", tree+"d", "config.txt", "arm_64bit=1\nkernel=u-boot.bin\n"), false, "U-Boot", tree + "d", 0},
		{"no config.txt, 3B", pifirmware.Pi3B, with("config.txt", "", "kernel8.img", "k8"), false, "", "", 0},
		{"no config.txt, 4B", pifirmware.Pi4B, with("config.txt", "", "kernel8.img", "k8"), false, "k8", tree + "4", 1},
		{"another model's section", pifirmware.Pi3B, with("config.txt", "arm_64bit=1\nkernel=u-boot.bin\n[pi4]\nkernel=other\n[all]\nupstream_kernel=1"), false, "U-Boot", tree + "3", 0},
		{"this model's section", pifirmware.Pi3B, with("config.txt", "arm_64bit=1\nkernel=other\n[pi3]\nkernel=u-boot.bin\nupstream_kernel=1"), false, "U-Boot", tree + "3", 0},
		{"no section of any model", pifirmware.Pi4B, with("config.txt", "kernel=u-boot.bin\n[none]\nkernel=other\n[EDID=x]\nkernel=other\n"), false, "U-Boot", tree + "4", 0},
		{"comments and blanks", pifirmware.Pi4B, with("config.txt", "# kernel=other\r\n  kernel = u-boot.bin \r\n"), false, "U-Boot", tree + "4", 0},
		{"a long line is cut", pifirmware.Pi4B, with("config.txt", "kernel=u-boot.bin\n#"+long+"\nos_prefix="+long+"/"), false, "U-Boot", tree + "4", 0},
		{"include", pifirmware.Pi4B, with("config.txt", "kernel=other\ninclude more.txt\n", "more.txt", "kernel=u-boot.bin\n"), false, "U-Boot", tree + "4", 0},
		{"what follows an include counts", pifirmware.Pi4B, with("config.txt", "include more.txt\nkernel=u-boot.bin", "more.txt", "kernel=other\n"), false, "U-Boot", tree + "4", 0},
		{"an include of itself", pifirmware.Pi4B, with("config.txt", "include config.txt\n"), false, "", "", 0},
		{"a prefix with both", pifirmware.Pi4B, with("config.txt", "os_prefix=new/\nkernel=u-boot.bin", "new/u-boot.bin", "new", "new/bcm2711-rpi-4-b.dtb", tree+"new"), false, "new", tree + "new", 0},
		{"a prefix without a tree is ignored", pifirmware.Pi4B, with("config.txt", "os_prefix=new/\nkernel=u-boot.bin", "new/u-boot.bin", "new"), false, "U-Boot", tree + "4", 1},
		{"tryboot.txt", pifirmware.Pi4B, with("tryboot.txt", "kernel=other.bin", "other.bin", "other"), true, "other", tree + "4", 0},
		{"tryboot.txt without the flag", pifirmware.Pi4B, with("tryboot.txt", "kernel=other.bin", "other.bin", "other"), false, "U-Boot", tree + "4", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := makeDisk(t, true, c.files)
			b, err := pifirmware.Start(f, diskSize, c.model, c.tryboot)
			if c.program == "" {
				if !errors.Is(err, pifirmware.ErrNoBoot) {
					t.Errorf("got %+v, %v, want ErrNoBoot", b, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []any{string(b.Program), string(b.Tree), len(b.Notes)}
			if diff := cmp.Diff([]any{c.program, c.tree, c.notes}, got); diff != "" {
				t.Errorf("notes %q (-want +got):\n%s", b.Notes, diff)
			}
		})
	}
}

func TestPartitions(t *testing.T) {
	second := with("u-boot.bin", "second")
	for _, c := range []struct {
		name    string
		model   pifirmware.Model
		hybrid  bool
		auto    string // autoboot.txt of the first partition
		tryboot bool
		want    string
	}{
		{"a GPT, 4B", pifirmware.Pi4B, false, "", false, "U-Boot"},
		{"a GPT, 3B", pifirmware.Pi3B, false, "", false, ""}, // its ROM sees no partition
		{"hybrid, 3B", pifirmware.Pi3B, true, "", false, "U-Boot"},
		{"autoboot.txt", pifirmware.Pi4B, true, "[all]\nboot_partition=2\n", false, "second"},
		{"autoboot.txt for a trial", pifirmware.Pi4B, true, "[all]\nboot_partition=1\n[tryboot]\nboot_partition=2\n", true, "second"},
		{"which it is not", pifirmware.Pi4B, true, "[all]\nboot_partition=1\n[tryboot]\nboot_partition=2\n", false, "U-Boot"},
		{"a partition that is not there", pifirmware.Pi4B, true, "boot_partition=7\n", false, "U-Boot"},
		{"garbage", pifirmware.Pi4B, true, "\x00\xff[[=\n", false, "U-Boot"},
		{"too long", pifirmware.Pi4B, true, strings.Repeat("#\n", 300), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := pifirmware.Start(makeDisk(t, c.hybrid, with("autoboot.txt", c.auto), second), diskSize, c.model, c.tryboot)
			switch {
			case c.want == "" && !errors.Is(err, pifirmware.ErrNoBoot):
				t.Errorf("got %+v, %v, want ErrNoBoot", b, err)
			case c.want != "" && (err != nil || string(b.Program) != c.want):
				t.Errorf("got %+v, %v, want %s", b, err, c.want)
			}
		})
	}
}

func TestSecondPartitionAlone(t *testing.T) {
	f := makeDisk(t, false, map[string]string{}, shipped())
	if _, err := f.WriteAt(make([]byte, 512), mib); err != nil { // no FAT in the first
		t.Fatal(err)
	}
	if b, err := pifirmware.Start(f, diskSize, pifirmware.Pi4B, false); err != nil || b.Partition != 2 {
		t.Errorf("got %+v, %v, want partition 2", b, err)
	}
}

func FuzzStart(f *testing.F) {
	mbr := make([]byte, 512)
	mbr[446+4], mbr[510], mbr[511] = 0x0c, 0x55, 0xaa
	binary.LittleEndian.PutUint32(mbr[446+8:], 1)
	binary.LittleEndian.PutUint32(mbr[446+12:], 1)
	f.Add(mbr, []byte("EFI PART"), true)
	f.Fuzz(func(t *testing.T, first, second []byte, rom bool) {
		d := make([]byte, 4096)
		copy(d[512:], second)
		copy(d, first[:min(len(first), 512)])
		m := pifirmware.Pi4B
		m.ROM = rom
		if _, err := pifirmware.Start(strings.NewReader(string(d)), int64(len(d)), m, false); err == nil {
			t.Error("a disk of eight sectors starts something")
		}
	})
}
