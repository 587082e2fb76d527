package drivers

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
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
	for _, tt := range []struct {
		name string
		next fstest.MapFS
		want []string
	}{
		{"all of it", tables(allAlias, allDep, "", ""), nil},
		{"the network's", tables(without(allAlias, "virtio_net"), without(allDep, "virtio_net"), "", ""), []string{"net/eth0 (virtio:d00000001v00001AF4, whose driver is virtio_net)"}},
		{"the disk's", tables(without(allAlias, "blk"), without(allDep, "blk"), "", ""), []string{"block/vda (virtio:d00000002v00001AF4, whose driver is virtio_blk)"}},
		{"the bus's, of two devices", tables(without(allAlias, "pci:v1AF4"), without(allDep, "virtio-pci"), "", ""), []string{
			"block/vda (pci:v1AF4d1002sv, whose driver is virtio_pci)", "net/eth0 (pci:v1AF4d1001sv, whose driver is virtio_pci)"}},
		{"the watchdog's", tables(without(allAlias, "WDAT"), allDep, "", ""), []string{"watchdog/watchdog0 (acpi:WDAT0001:)"}},
		{"those of what is not in use", tables(without(allAlias, "e1000", "sr_mod"), without(allDep, "e1000"), "", ""), nil},
		{"none: it became a part of the kernel", tables(without(allAlias, "virtio_net"), without(allDep, "virtio_net"), "", "kernel/drivers/net/virtio_net.ko\n"), nil},
		{"none: another driver takes the device", tables(strings.ReplaceAll(allAlias, "virtio_net", "new_net"), without(allDep, "virtio_net")+"new_net.ko:\n", "", ""), nil},
		{"none: the kernel says that it does", tables(without(allAlias, "virtio_net"), without(allDep, "virtio_net"), "alias virtio:d00000001v* net\n", ""), nil},
	} {
		m := Machine{Sys: sysfs(t), Root: tables(allAlias, allDep, "", "")}
		lost, err := m.Lost(image(t, tt.next))
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
	for name, m := range map[string]Machine{
		"no modules in the running root": {Sys: sysfs(t), Root: fstest.MapFS{}},
		"no sysfs":                       {Sys: filepath.Join(t.TempDir(), "none"), Root: good},
	} {
		if lost, err := m.Lost(next); err == nil || len(lost) > 0 {
			t.Errorf("%s: got %v, %v; want an error", name, lost, err)
		}
	}
	m := Machine{Sys: sysfs(t), Root: good}
	for name, next := range map[string]io.ReaderAt{
		"no file system": bytes.NewReader(make([]byte, 1<<20)),
		"no modules":     image(t, fstest.MapFS{"etc/x": {Data: []byte("x")}}),
	} {
		if lost, err := m.Lost(next); err == nil || len(lost) > 0 {
			t.Errorf("a new root with %s: got %v, %v; want an error", name, lost, err)
		}
	}
	// A device that the running root's tables do not know either.
	m.Root = tables("", "x.ko:\n", "", "")
	if lost, err := m.Lost(next); err != nil || len(lost) > 0 {
		t.Errorf("tables that know no device: got %v, %v", lost, err)
	}
	if lost, err := (Machine{}).Lost(next); err != nil || len(lost) > 0 {
		t.Errorf("nothing to compare: got %v, %v", lost, err)
	}
}
