package imagetest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/ulikunitz/xz"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/image/keys"
)

// KernelRelease is the release of Kernel.
const KernelRelease = "6.0.0-test"

// Board returns a board that the other inputs fit.
func Board() boards.Board {
	return boards.Board{
		Slug: "test-board", Description: "for tests", Arch: "amd64", Boot: "systemd-boot",
		Packages: boards.Packages{Kernel: "linux-image-test", Loader: "systemd-boot-test"},
		Cmdline:  []string{"quiet", "console=ttyS0"},
		Modules: boards.Modules{
			Initramfs: []string{"virtio_blk", "virtio-pci"}, // the second is built in
			Root:      []string{"kernel/net"},
			Load:      []string{"erofs"},
		},
	}
}

// Kernel returns an unpacked kernel package with a few modules: erofs depends
// on libcrc, which softly wants the alias crc; net/big is large.
func Kernel(t testing.TB) fstest.MapFS {
	t.Helper()
	pkg := fstest.MapFS{}
	put := func(name string, data []byte) { pkg[name] = &fstest.MapFile{Data: data} }
	put("boot/vmlinuz-"+KernelRelease, bytes.Repeat([]byte("kernel "), 4000))
	dir := "usr/lib/modules/" + KernelRelease + "/"
	for name, info := range map[string][]string{
		"kernel/drivers/block/virtio_blk": {"name=virtio_blk", "alias=virtio:d00000002v*", "depends="},
		"kernel/fs/erofs/erofs":           {"name=erofs", "alias=fs-erofs", "depends=libcrc"},
		"kernel/lib/libcrc":               {"name=libcrc", "softdep=pre: crc post: absent", "depends="},
		"kernel/crypto/crc-generic":       {"name=crc_generic", "alias=crc", "alias=crypto-crc", "depends="},
		"kernel/net/8021q/8021q":          {"name=8021q", "alias=rtnl-link-vlan", "depends=garp,mrp"},
		"kernel/net/802/garp":             {"name=garp", "depends=stp-core"},
		"kernel/net/802/mrp":              {"name=mrp", "depends="},
		"kernel/net/802/stp_core":         {"name=stp_core", "depends="},
		"kernel/sound/snd":                {"name=snd", "firmware=snd.bin", "depends="},
	} {
		put(dir+name+".ko.xz", XZ(t, Module(info...)))
	}
	put(dir+"modules.builtin", []byte("kernel/drivers/virtio/virtio_pci.ko\n"))
	put(dir+"modules.builtin.modinfo", []byte("virtio_pci.alias=pci:v00001AF4d*\x00virtio_pci.license=GPL\x00"))
	return pkg
}

// Loader returns an unpacked systemd-boot package.
func Loader() fstest.MapFS {
	return fstest.MapFS{
		"usr/lib/systemd/boot/efi/systemd-bootx64.efi": {Data: PE("the boot loader")},
		"usr/lib/systemd/boot/efi/linuxx64.efi.stub":   {Data: PE("the stub")},
	}
}

// PE returns a small PE32+ file for x86-64 with one section and room for
// sixteen headers more.
func PE(text string) []byte {
	const headers, opt, table = 1024, 0x40 + 24, 0x40 + 24 + 240
	le := binary.LittleEndian
	pe := make([]byte, headers+512)
	copy(pe, "MZ")
	le.PutUint32(pe[0x3c:], 0x40)
	copy(pe[0x40:], "PE\x00\x00\x64\x86\x01\x00") // x86-64, one section
	le.PutUint16(pe[0x40+20:], 240)               // size of the optional header
	le.PutUint16(pe[0x40+22:], 0x0022)            // executable, large addresses
	for off, v := range map[int]uint32{
		opt: 0x020b, opt + 4: 512, opt + 16: 0x1000, opt + 20: 0x1000, // PE32+, code, entry
		opt + 32: 4096, opt + 36: 512, opt + 56: 0x2000, opt + 60: headers, opt + 68: 10, opt + 108: 16,
	} {
		le.PutUint32(pe[off:], v)
	}
	copy(pe[table:], ".text")
	for off, v := range map[int]uint32{8: 512, 12: 0x1000, 16: 512, 20: headers, 36: 0x60000020} {
		le.PutUint32(pe[table+off:], v)
	}
	copy(pe[headers:], text)
	return pe
}

// Module returns a kernel module as far as depmod reads one: an ELF object
// with a .modinfo section of the given key=value words.
func Module(words ...string) []byte {
	var info bytes.Buffer
	for _, w := range words {
		info.WriteString(w + "\x00")
	}
	names := "\x00.modinfo\x00.shstrtab\x00"
	le := binary.LittleEndian
	ko := make([]byte, 64)
	copy(ko, "\x7fELF\x02\x01\x01")
	le.PutUint16(ko[16:], 1)  // relocatable
	le.PutUint16(ko[18:], 62) // x86-64
	le.PutUint32(ko[20:], 1)
	le.PutUint64(ko[40:], uint64(64+info.Len()+len(names))) // section headers
	le.PutUint16(ko[52:], 64)
	le.PutUint16(ko[58:], 64) // size and number of section headers, names in 2
	le.PutUint16(ko[60:], 3)
	le.PutUint16(ko[62:], 2)
	ko = append(append(ko, info.Bytes()...), names...)
	header := func(name, kind uint32, off, size int) {
		h := make([]byte, 64)
		le.PutUint32(h, name)
		le.PutUint32(h[4:], kind)
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
		le.PutUint64(h[48:], 1)
		ko = append(ko, h...)
	}
	header(0, 0, 0, 0)
	header(1, 1, 64, info.Len())             // .modinfo, PROGBITS
	header(10, 3, 64+info.Len(), len(names)) // .shstrtab
	return ko
}

// XZ compresses data as Debian compresses modules.
func XZ(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := xz.NewWriter(&buf)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Keys returns a fresh signing key.
func Keys(t testing.TB) keys.Pair {
	t.Helper()
	pair, _, err := keys.LoadOrCreate(filepath.Join(t.TempDir(), "keys"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Binary builds the smallest static Go program and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module tiny\ngo 1.26\n", "main.go": "package main\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CGO_ENABLED", "0")
	Run(t, "go", "build", "-C", dir, "-trimpath", "-ldflags=-s -w", "-o", "tiny", ".")
	return filepath.Join(dir, "tiny")
}

// Noise returns bytes that no compression shrinks.
func Noise(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
