package boot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

// genericBoard is the board for hardware of the test board's architecture.
func genericBoard(t *testing.T) string {
	return map[string]string{"amd64": "x86-64-uefi", "arm64": "arm64-uefi"}[harness.Arch(t)]
}

// disks are the kinds of disk that a generic board boots from: tried when the
// whole matrix is asked for. TestInstaller boots from USB and NVMe on each run.
// Where QEMU's firmware of an architecture has no driver for one, QEMU hands the
// kernel image to it.
var disks = []struct {
	name, bus, disk string
	unread          []string
}{
	{"nvme", "", "nvme,serial=wayside", nil},
	{"sata", "ich9-ahci,id=sata", "ide-hd,bus=sata.0", []string{"arm64"}},
	{"usb", "qemu-xhci", "usb-storage", nil},
	{"scsi", "virtio-scsi-pci", "scsi-hd", nil},
	{"sd", "sdhci-pci", "sd-card", []string{"amd64", "arm64"}},
	{"emmc", "sdhci-pci", "emmc", []string{"amd64", "arm64"}},
}

// on gives the machine another kind of disk than the board's.
func on(bus, disk string) func(*qemu.Config) {
	return func(c *qemu.Config) {
		board := *c.Board.QEMU
		board.Bus, board.Disk = bus, disk
		c.Board.QEMU = &board
	}
}

// kernelGiven has QEMU hand the kernel image to the firmware.
func kernelGiven(t *testing.T, img harness.Image) func(*qemu.Config) {
	t.Helper()
	path, _ := harness.Inspect(t, img.Path)
	file := filepath.Join(t.TempDir(), "kernel.efi")
	if err := os.WriteFile(file, harness.ReadBootPartition(t, img.Path, path), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(c *qemu.Config) { c.Extra = []string{"-kernel", file} }
}

// TestGenericBoard boots the image that is for hardware from each kind of disk.
func TestGenericBoard(t *testing.T) {
	harness.NeedVM(t)
	if !harness.Long() {
		t.Skip("only in make test-all")
	}
	slug := genericBoard(t)
	img := harness.BuildBoard(t, slug, profile)
	for _, d := range disks {
		t.Run(d.name, func(t *testing.T) {
			if d.name == "emmc" && !plugsIn(t, d.disk) {
				t.Skip("this QEMU has eMMC only on boards of its own; 11.1 plugs it in")
			}
			machine := []func(*qemu.Config){on(d.bus, d.disk)}
			if slices.Contains(d.unread, harness.Arch(t)) {
				machine = append(machine, kernelGiven(t, img))
			}
			box := harness.Boot(t, img, machine...)
			box.WaitReady()
			if got := box.Look().Box; got.Board != slug || got.Verity != "ok" {
				t.Errorf("got board %q with verity %q, want %s and ok", got.Board, got.Verity, slug)
			}
			box.PowerOff()
		})
	}
}

// plugsIn says that QEMU takes a device on its command line.
func plugsIn(t *testing.T, device string) bool {
	t.Helper()
	bin, err := qemu.Find(t.Context(), harness.System(t))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(bin.Path, "-device", "help").Output()
	if err != nil {
		t.Fatalf("ask QEMU for its devices: %v", err)
	}
	return strings.Contains(string(out), `name "`+device+`"`)
}

// TestBIOSMachine starts the image on a machine without UEFI: it says what is
// wrong on the screen and on the serial console, and starts over on a key.
func TestBIOSMachine(t *testing.T) {
	harness.NeedVM(t)
	if harness.Arch(t) != "amd64" {
		t.Skip("only x86 machines have a BIOS")
	}
	img := harness.BuildBoard(t, genericBoard(t), profile)
	box := harness.Boot(t, img, func(c *qemu.Config) {
		c.Firmware = qemu.Firmware{Code: seaBIOS(t)}
		c.Extra = []string{"-device", "VGA"}
	})
	const notice = `Wayside needs UEFI\.`
	box.Expect(harness.BootTime, notice)
	box.Expect(harness.BootTime, `Press a key to start over\.`)
	if got := screen(t, box); !strings.Contains(got, "Wayside needs UEFI.") {
		t.Errorf("the screen shows %q", got)
	}
	press(t, box, "ret")
	box.Expect(time.Minute, notice)
}

// press presses keys of the machine's keyboard, one after the other, by QEMU's
// names (QKeyCode).
func press(t *testing.T, box *harness.Box, keys ...string) {
	t.Helper()
	for _, key := range keys {
		args := map[string]any{"keys": []map[string]string{{"type": "qcode", "data": key}}}
		if err := box.QMP(t.Context(), "send-key", args, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// seaBIOS is the BIOS that QEMU comes with.
func seaBIOS(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("qemu-system-x86_64", "-L", "help").Output()
	if err != nil {
		t.Fatalf("ask QEMU for its data folders: %v", err)
	}
	for _, dir := range strings.Fields(string(out)) {
		file := filepath.Join(dir, "bios-256k.bin")
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	t.Fatalf("no bios-256k.bin in %s", out)
	return ""
}

// screen is the text on a VGA in text mode, which lies at 0xb8000: a character
// and its colour at a time.
func screen(t *testing.T, box *harness.Box) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "screen")
	err := box.QMP(t.Context(), "pmemsave", map[string]any{"val": 0xb8000, "size": 80 * 25 * 2, "filename": file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cells, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for i := 0; i < len(cells); i += 2 {
		text.WriteByte(cells[i])
	}
	return text.String()
}
