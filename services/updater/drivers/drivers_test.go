package drivers

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"
)

// sysfs is one of a small machine: a network card and a disk on PCI by virtio,
// a second card that nothing is plugged into, a CD drive, a watchdog of which
// the kernel has the driver, and an interface that is no device.
func sysfs(t *testing.T) string {
	t.Helper()
	sys := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		name = filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		t.Helper()
		name = filepath.Join(sys, name)
		for _, dir := range []string{filepath.Dir(name), filepath.Join(sys, to)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(filepath.Join(sys, to), name); err != nil {
			t.Fatal(err)
		}
	}
	device := func(dir, modalias, driver string) {
		t.Helper()
		file(dir+"/modalias", modalias)
		link(dir+"/driver", "bus/drivers/"+driver)
	}
	for driver, module := range map[string]string{"virtio_net": "virtio_net", "virtio-pci": "virtio_pci", "virtio_blk": "virtio_blk", "e1000": "e1000", "sr": "sr_mod"} {
		link("bus/drivers/"+driver+"/module", "module/"+module)
	}
	for n, d := range map[string]struct{ id, driver string }{"3": {"1", "virtio_net"}, "4": {"2", "virtio_blk"}} {
		device("devices/pci/"+n, "pci:v1AF4d100"+d.id+"sv", "virtio-pci")
		device("devices/pci/"+n+"/virtio"+n, "virtio:d0000000"+d.id+"v00001AF4", d.driver)
	}
	file("devices/pci/3/virtio3/net/eth0/operstate", "up")
	link("class/net/eth0", "devices/pci/3/virtio3/net/eth0")
	file("devices/pci/4/virtio4/block/vda/removable", "0")
	file("devices/pci/4/virtio4/block/vda/vda1/partition", "1")
	link("class/block/vda", "devices/pci/4/virtio4/block/vda")
	link("class/block/vda1", "devices/pci/4/virtio4/block/vda/vda1")
	device("devices/pci/5", "pci:v8086d100E", "e1000")
	file("devices/pci/5/net/eth1/operstate", "down")
	link("class/net/eth1", "devices/pci/5/net/eth1")
	device("devices/pci/6", "scsi:t-0x05", "sr")
	file("devices/pci/6/block/sr0/removable", "1")
	link("class/block/sr0", "devices/pci/6/block/sr0")
	device("devices/wdt", "acpi:WDAT0001:", "wdat_wdt") // no module
	link("class/watchdog/watchdog0", "devices/wdt/watchdog/watchdog0")
	link("class/net/lo", "devices/virtual/net/lo")
	return sys
}

// tables are a root's, for one kernel.
func tables(alias, dep, builtinAlias, builtin string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range map[string]string{"modules.alias": alias, "modules.dep": dep, "modules.builtin.alias": builtinAlias, "modules.builtin": builtin} {
		root["usr/lib/modules/6.12.0/"+name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return root
}

// kernel is a UKI as far as it matters here, with what an initramfs has.
func kernel(t *testing.T, tables fstest.MapFS) io.ReaderAt {
	t.Helper()
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	records := []cpio.Record{cpio.Directory("usr/lib/modules/6.12.0", 0o755), cpio.StaticRecord([]byte("odd"), cpio.Info{Name: "init", Mode: cpio.S_IFREG | 0o755})}
	for name, file := range tables {
		records = append(records, cpio.StaticRecord(file.Data, cpio.Info{Name: name, Mode: cpio.S_IFREG | 0o644}))
	}
	if err := cpio.WriteRecords(w, records); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	const at = 512
	dos := make([]byte, 64)
	copy(dos, "MZ")
	dos[0x3c] = byte(len(dos))
	size := uint32(archive.Len())
	var out bytes.Buffer
	out.Write(dos)
	out.WriteString("PE\x00\x00")
	section := pe.SectionHeader32{VirtualSize: size, SizeOfRawData: size + 300, PointerToRawData: at} // padded
	copy(section.Name[:], ".initrd")
	for _, header := range []any{pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1}, section} {
		if err := binary.Write(&out, binary.LittleEndian, header); err != nil {
			t.Fatal(err)
		}
	}
	out.Write(make([]byte, at-out.Len()))
	out.Write(archive.Bytes())
	out.Write(make([]byte, 300))
	return bytes.NewReader(out.Bytes())
}

// image is a root as it lies in a slot.
func image(t *testing.T, root fstest.MapFS) io.ReaderAt {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w := erofs.Create(f)
	for _, dir := range []string{"/usr", "/usr/lib", "/usr/lib/modules", "/usr/lib/modules/6.12.0", "/etc"} {
		if err := w.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range root {
		out, err := w.Create("/" + name)
		if err == nil {
			_, err = out.Write(file.Data)
		}
		if err == nil {
			err = out.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.WriteAt(make([]byte, 4096), end) // see "what has bitten" of docs/architecture.md
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const (
	allAlias = `# a comment
alias virtio:d00000001v* virtio_net
alias virtio:d00000002v* virtio_blk
alias pci:v1AF4d*sv* virtio_pci
alias pci:v8086d100E e1000
alias scsi:t-0x05* sr_mod
alias acpi*:WDAT0001:* wdat_wdt
`
	allDep = "kernel/net/virtio_net.ko: kernel/net/net-failover.ko\nkernel/net/virtio-pci.ko:\nkernel/block/virtio_blk.ko:\nkernel/e1000.ko:\n"
)

func TestLost(t *testing.T) {
	without := func(text string, words ...string) string {
		var out []string
		for line := range strings.Lines(text) {
			keep := true
			for _, w := range words {
				keep = keep && !strings.Contains(line, w)
			}
			if keep {
				out = append(out, line)
			}
		}
		return strings.Join(out, "")
	}
	whole := tables(allAlias, allDep, "", "")
	for _, tt := range []struct {
		name  string
		next  fstest.MapFS
		early fstest.MapFS // nil: all of it
		want  []string
	}{
		{"all of it", tables(allAlias, allDep, "", ""), nil, nil},
		{"the network's", tables(without(allAlias, "virtio_net"), without(allDep, "virtio_net"), "", ""), nil, []string{"net/eth0 (virtio:d00000001v00001AF4, whose driver is virtio_net)"}},
		{"the disk's", tables(without(allAlias, "blk"), without(allDep, "blk"), "", ""), nil, []string{"block/vda (virtio:d00000002v00001AF4, whose driver is virtio_blk)"}},
		{"the bus's, of two devices", tables(without(allAlias, "pci:v1AF4"), without(allDep, "virtio-pci"), "", ""), nil, []string{
			"block/vda (pci:v1AF4d1002sv, whose driver is virtio_pci)", "net/eth0 (pci:v1AF4d1001sv, whose driver is virtio_pci)"}},
		{"the watchdog's", tables(without(allAlias, "WDAT"), allDep, "", ""), nil, []string{"watchdog/watchdog0 (acpi:WDAT0001:, whose driver is wdat_wdt)"}},
		{"those of what is not in use", tables(without(allAlias, "e1000", "sr_mod"), without(allDep, "e1000"), "", ""), nil, nil},
		{"none: it became a part of the kernel", tables(without(allAlias, "virtio_net"), without(allDep, "virtio_net"), "", "kernel/drivers/net/virtio_net.ko\n"), nil, nil},
		{"none: another driver takes the device", tables(strings.ReplaceAll(allAlias, "virtio_net", "new_net"), without(allDep, "virtio_net")+"new_net.ko:\n", "", ""), nil, nil},
		{"none: the kernel says that it does", tables(without(allAlias, "virtio_net"), without(allDep, "virtio_net"), "alias virtio:d00000001v* net\n", ""), nil, nil},
		{"the disk's, in the initramfs", whole, tables(without(allAlias, "blk"), without(allDep, "blk"), "", ""), []string{"the start from vda1 (virtio:d00000002v00001AF4, whose driver is virtio_blk)"}},
		{"the bus's, in the initramfs", whole, tables(without(allAlias, "pci:v1AF4"), without(allDep, "virtio-pci"), "", ""), []string{"the start from vda1 (pci:v1AF4d1002sv, whose driver is virtio_pci)"}},
		{"none: the disk's is in the initramfs's kernel", whole, tables(without(allAlias, "blk"), without(allDep, "blk"), "", "kernel/block/virtio_blk.ko\n"), nil},
		{"none: what the start does not need", whole, tables(without(allAlias, "virtio_net", "WDAT"), without(allDep, "virtio_net"), "", ""), nil},
	} {
		m := Machine{Sys: sysfs(t), Root: whole}
		if tt.early == nil {
			tt.early = whole
		}
		lost, err := m.Lost(Release{Root: image(t, tt.next), UKI: kernel(t, tt.early)}, "vda1")
		var got []string
		for _, d := range lost {
			got = append(got, d.String())
		}
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("a release without %s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}

// TestUnknown: what cannot be compared is an error or nothing, never a loss.
func TestUnknown(t *testing.T) {
	good, next := tables(allAlias, allDep, "", ""), image(t, tables("", "", "", ""))
	early := kernel(t, good)
	for name, m := range map[string]Machine{
		"no modules in the running root": {Sys: sysfs(t), Root: fstest.MapFS{}},
		"no sysfs":                       {Sys: filepath.Join(t.TempDir(), "none"), Root: good},
	} {
		if lost, err := m.Lost(Release{next, early}, "vda1"); err == nil || len(lost) > 0 {
			t.Errorf("%s: got %v, %v; want an error", name, lost, err)
		}
	}
	m := Machine{Sys: sysfs(t), Root: good}
	for name, next := range map[string]Release{
		"no file system":              {bytes.NewReader(make([]byte, 1<<20)), early},
		"no modules":                  {image(t, fstest.MapFS{"etc/x": {Data: []byte("x")}}), early},
		"no kernel image":             {image(t, good), bytes.NewReader(make([]byte, 4096))},
		"no modules in the initramfs": {image(t, good), kernel(t, nil)},
	} {
		if lost, err := m.Lost(next, "vda1"); err == nil || len(lost) > 0 {
			t.Errorf("a release with %s: got %v, %v; want an error", name, lost, err)
		}
	}
	// What the root lacks is told although the initramfs cannot be read.
	without := strings.ReplaceAll(allAlias, "virtio_net", "other")
	if lost, err := m.Lost(Release{image(t, tables(strings.ReplaceAll(without, "d00000001v", "d00000009v"), "x.ko:\n", "", "")), kernel(t, nil)}, "vda1"); err == nil || len(lost) != 1 || lost[0].Module != "virtio_net" {
		t.Errorf("a release without an initramfs and without a driver: got %v, %v", lost, err)
	}
	// A device that the running root's tables do not know either.
	m.Root = tables("", "x.ko:\n", "", "")
	if lost, err := m.Lost(Release{next, early}, "vda1"); err != nil || len(lost) > 0 {
		t.Errorf("tables that know no device: got %v, %v", lost, err)
	}
	if lost, err := (Machine{}).Lost(Release{next, early}, ""); err != nil || len(lost) > 0 {
		t.Errorf("nothing to compare: got %v, %v", lost, err)
	}
}

func TestDrivenBy(t *testing.T) {
	d := Device{Module: "virtio_pci", Driver: "virtio-pci"}
	for name, want := range map[string]bool{"virtio_pci": true, "virtio-pci": true, "virtio": false, "": false} {
		if got := d.DrivenBy([]string{"x", name}); got != want {
			t.Errorf("driven by %q: got %t, want %t", name, got, want)
		}
	}
	if (Device{Driver: "wdat_wdt"}).DrivenBy([]string{""}) {
		t.Error("a driver without a module goes by no name")
	}
}

// FuzzInitramfs: whatever a kernel image holds, it ends.
func FuzzInitramfs(f *testing.F) {
	f.Add([]byte("070701"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
		n := 0
		if err := eachMember(r, func(string, *io.SectionReader) { n++ }); err == nil && n > len(data)/newcHeader {
			t.Errorf("%d members in %d bytes", n, len(data))
		}
	})
}
