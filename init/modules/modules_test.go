//go:build linux

package modules

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	testAlias = `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v*d*sv*sd*bc01sc06i01* achi-twin
alias virtio:d00000002v* virtio_blk
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip[0-9]0in* usb_storage
alias acpi*:PNP0C0C:* button
alias crypto-sha256-all sha256-ssse3
alias fs-erofs erofs
alias of:N*T*Cbrcm,bcm2835-wdt bcm2835_wdt
broken line
`
	testDep = `kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-mod.ko:
kernel/drivers/block/virtio_blk.ko.xz: 
kernel/loop/a.ko: kernel/loop/b.ko
kernel/loop/b.ko: kernel/loop/a.ko
kernel/loop/c.ko: kernel/gone.ko
`
)

func aliases(t testing.TB, text string) *Aliases {
	t.Helper()
	a, err := ParseAliases(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestMatch(t *testing.T) {
	a := aliases(t, testAlias)
	for modalias, want := range map[string][]string{
		"pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00": {"virtio_pci"},
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01": {"ahci", "achi_twin"},
		"virtio:d00000002v00001AF4":                             {"virtio_blk"},
		"virtio:d00000001v00001AF4":                             nil,
		"usb:v0781p5583d0100dc00dsc00dp00ic08isc06ip50in00":     {"usb_storage"},
		"usb:v0781p5583d0100dc00dsc00dp00ic08isc06ipX0in00":     nil,
		"crypto-sha256-all":                                     {"sha256_ssse3"},
		"crypto_sha256_all":                                     {"sha256_ssse3"},
		"fs-erofs":                                              {"erofs"},
		"of:NwatchdogT(null)Cbrcm,bcm2835-wdt":                  {"bcm2835_wdt"},
		"":                                                      nil,
	} {
		if diff := cmp.Diff(want, a.Match(modalias)); diff != "" {
			t.Errorf("Match(%q) (-want +got):\n%s", modalias, diff)
		}
	}
}

func TestMatchBusWithWildcard(t *testing.T) {
	if got := aliases(t, testAlias).Match("acpi:PNP0C0C:"); !cmp.Equal(got, []string{"button"}) {
		t.Errorf("got %v for an ACPI button, want [button]", got)
	}
}

func TestOrder(t *testing.T) {
	d, err := ParseDeps(strings.NewReader(testDep))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"dm-verity":  {"dm_mod", "dm_bufio", "dm_verity"},
		"dm_mod":     {"dm_mod"},
		"virtio_blk": {"virtio_blk"},
		"a":          {"b", "a"}, // a circle ends
	} {
		order, err := d.Order(name)
		var got []string
		for _, n := range order {
			got = append(got, n.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("Order(%q): %v (-want +got):\n%s", name, err, diff)
		}
	}
	for _, name := range []string{"nothing", "c"} {
		if _, err := d.Order(name); !errors.Is(err, ErrUnknown) {
			t.Errorf("Order(%q): got %v, want ErrUnknown", name, err)
		}
	}
}

func TestSoftDependencies(t *testing.T) {
	d, err := ParseDeps(strings.NewReader(testDep + "kernel/libcrc.ko:\nkernel/crc-fast.ko:\nkernel/user.ko: kernel/libcrc.ko\n"))
	if err != nil {
		t.Fatal(err)
	}
	const soft = "# comment\nsoftdep libcrc pre: crc absent post: dm_mod\nsoftdep crc_fast pre: libcrc\nsoftdep user pre: c\nsoftdep x\n"
	if err := d.ParseSoft(strings.NewReader(soft), aliases(t, testAlias+"alias crc crc-fast\n")); err != nil {
		t.Fatal(err)
	}
	got, err := d.Order("user") // c needs what is not there
	want := []Need{{"crc_fast", true}, {"libcrc", false}, {"user", false}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Order(user): %v (-want +got):\n%s", err, diff)
	}
}

// testLoader records what is inserted; devices as modalias files below sys.
func testLoader(t *testing.T, insert func(string) error) (l *Loader, out *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"modules.alias": testAlias, "modules.dep": testDep} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out = &bytes.Buffer{}
	l, err := open(slog.New(slog.NewTextHandler(out, nil)), dir, t.TempDir(), insert)
	if err != nil {
		t.Fatal(err)
	}
	return l, out
}

func addDevice(t *testing.T, sys, name, modalias string) {
	t.Helper()
	dir := filepath.Join(sys, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(modalias+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestColdplugFollowsNewDevices(t *testing.T) {
	sys := t.TempDir()
	var got []string
	l, _ := testLoader(t, func(p string) error {
		got = append(got, path.Base(p))
		if path.Base(p) == "dm-verity.ko" { // a driver that shows a device
			addDevice(t, sys, "bus/virtio/devices/a-late", "virtio:d00000002v00001AF4")
		}
		return nil
	})
	l.alias = aliases(t, testAlias+"alias pci:v1* dm-verity\nalias cpu:* b\n")
	addDevice(t, sys, "bus/pci/devices/b", "pci:v1")
	addDevice(t, sys, "class/input/c", "pci:v1")
	addDevice(t, sys, "devices/system/cpu", "cpu:x86")
	if err := l.Coldplug(t.Context(), sys, Devices); err != nil {
		t.Fatal(err)
	}
	want := []string{"dm-mod.ko", "dm-bufio.ko", "dm-verity.ko", "virtio_blk.ko.xz"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("loaded (-want +got):\n%s", diff)
	}
	if l.Count() != len(want) {
		t.Errorf("got count %d, want %d", l.Count(), len(want))
	}
	if err := l.Coldplug(t.Context(), sys, Processors); err != nil || got[len(got)-1] != "b.ko" {
		t.Errorf("got %v (%v), want the processor's module last", got, err)
	}
}

func TestFailedModule(t *testing.T) {
	tries := 0
	l, out := testLoader(t, func(string) error { tries++; return unix.EINVAL })
	for range 2 {
		if err := l.Load("dm-verity"); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "dm_mod, which dm_verity needs") {
			t.Errorf("got %v, want EINVAL naming the dependency", err)
		}
	}
	if tries != 1 {
		t.Errorf("got %d attempts to insert a broken module, want 1", tries)
	}
	l.LoadAlias("virtio:d00000002v00001AF4")
	if !strings.Contains(out.String(), "virtio_blk") {
		t.Errorf("got log %q, want the failed driver named", out)
	}
	if got := l.Missing(); len(got) != 0 {
		t.Errorf("got %v missing, want none: they are there, and do not want", got)
	}
}

// TestMissing: what a device wants and the release lacks is told from what is
// there and does not want the device.
func TestMissing(t *testing.T) {
	l, _ := testLoader(t, func(p string) error {
		if strings.Contains(p, "dm-verity") {
			return unix.ENOEXEC // built for another kernel
		}
		return nil
	})
	l.Without("virtio_blk")
	l.LoadAlias("virtio:d00000002v00001AF4")
	_ = l.Load("dm-verity")
	list := filepath.Join(t.TempDir(), "modules.load")
	if err := os.WriteFile(list, []byte("none-such\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = l.LoadList(list)
	if diff := cmp.Diff([]string{"dm_verity", "none_such", "virtio_blk"}, l.Missing()); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

// Whoever wants a module that another is loading waits for it; a soft need
// that fails stops nobody.
func TestLoadBesideAnother(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	l, _ := testLoader(t, func(p string) error {
		switch path.Base(p) {
		case "dm-mod.ko":
			close(begun)
			<-end
		case "virtio_blk.ko.xz":
			return unix.EINVAL
		}
		return nil
	})
	l.deps.before["dm_bufio"] = []string{"virtio_blk"}
	results := make(chan error)
	go func() { results <- l.Load("dm-mod") }()
	<-begun
	go func() { results <- l.Load("dm-verity") }()
	select {
	case err := <-results:
		t.Fatalf("got %v before the module was in", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(end)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if got := l.Count(); got != 3 {
		t.Errorf("got %d modules loaded, want dm_mod, dm_bufio and dm_verity", got)
	}
}

// A walk is over when the drivers of the devices that it saw are in, also those
// that somebody else began to load, and of the devices that come by them. An
// event of a second such device waits for nobody.
func TestColdplugBesideEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		sys := t.TempDir()
		l, _ := testLoader(t, func(p string) error {
			if path.Base(p) == "virtio_blk.ko.xz" {
				<-end
				addDevice(t, sys, "bus/pci/devices/behind", "pci:v1")
			}
			return nil
		})
		l.alias = aliases(t, testAlias+"alias pci:v1* dm-mod\n")
		addDevice(t, sys, "bus/virtio/devices/a", "virtio:d00000002v00001AF4")
		go l.LoadAlias("virtio:d00000002v00001AF4")
		synctest.Wait()
		l.LoadAlias("virtio:d00000002v00001AF4")
		over := make(chan error, 1)
		go func() { over <- l.Coldplug(t.Context(), sys, Devices) }()
		synctest.Wait()
		select {
		case err := <-over:
			t.Errorf("the walk is over (%v) before the driver is in", err)
		default:
		}
		close(end)
		synctest.Wait()
		if err := <-over; err != nil || l.Count() != 2 {
			t.Errorf("got %v and %d modules, want the driver and that of the device behind", err, l.Count())
		}
	})
}

func TestLoadList(t *testing.T) {
	var got []string
	l, _ := testLoader(t, func(p string) error { got = append(got, path.Base(p)); return nil })
	list := filepath.Join(t.TempDir(), "modules.load")
	if err := os.WriteFile(list, []byte("# early\ndm_mod\n\n virtio_blk # disk\nnonesuch\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.LoadList(list, "dm_mod", "nonesuch"); err != nil {
		t.Error(err)
	}
	if want := []string{"virtio_blk.ko.xz"}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v: the others have time", got, want)
	}
	if err := l.LoadList(list); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "nonesuch") {
		t.Errorf("got %v, want the unknown module named", err)
	}
	if want := []string{"virtio_blk.ko.xz", "dm-mod.ko"}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := l.LoadList(list + ".gone"); err != nil {
		t.Errorf("got %v for no list, want nothing", err)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(testAlias, "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00")
	f.Add("alias a:[ x\nalias a:[] y\nalias a:\\ z\nalias a:[!a-] q", "a:[")
	f.Fuzz(func(t *testing.T, file, modalias string) {
		a, err := ParseAliases(strings.NewReader(file))
		if err != nil {
			return
		}
		a.Match(modalias)
	})
}

func FuzzGlobLiteral(f *testing.F) {
	f.Add("abc", "b")
	f.Fuzz(func(t *testing.T, s, part string) {
		if strings.ContainsAny(part, `*?[\`) {
			return
		}
		if got, want := glob("*"+part+"*", s), strings.Contains(s, part); got != want {
			t.Errorf("glob(*%s*, %q) is %v, want %v", part, s, got, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	var text strings.Builder
	for i := range 12000 {
		fmt.Fprintf(&text, "alias pci:v0000%04Xd0000%04Xsv*sd*bc*sc*i* m%d\n", i%500, i, i%900)
	}
	a := aliases(b, text.String())
	for b.Loop() {
		a.Match("pci:v000001F3d00002EDFsv00001AF4sd00001100bc01sc00i00")
	}
}

func TestTook(t *testing.T) {
	l, _ := testLoader(t, func(string) error {
		for end := threadTime() + time.Millisecond; threadTime() < end; {
		}
		return nil
	})
	if err := l.Load("dm-verity"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range l.Took() {
		if m.Processor < time.Millisecond {
			t.Errorf("%s took %s, less than its insertion used", m.Module, m.Processor)
		}
		got = append(got, m.Module)
	}
	if diff := cmp.Diff([]string{"dm_mod", "dm_bufio", "dm_verity"}, got); diff != "" {
		t.Errorf("modules that took time (-want +got):\n%s", diff)
	}
}
