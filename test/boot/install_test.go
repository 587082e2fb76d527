package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

// TestInstaller starts a stick that installs, in the long form on x86 once
// somebody has typed yes, cuts the power in the middle, starts it again, and then
// the machine without the stick: the generic board from USB and from NVMe, on
// each run.
func TestInstaller(t *testing.T) {
	harness.NeedVM(t)
	slug := genericBoard(t)
	img := harness.BuildBoard(t, slug, profile)
	stick := copyImage(t, img)
	wipe := func(consent string) {
		harness.PutOnBootPartition(t, stick, layout.ESPInstall, []byte("version: 1\ndisk: smallest\nmodel: QEMU NVMe*\nwipe: "+consent+"\n"))
	}
	asks := harness.Long() && harness.Arch(t) == "amd64" // the other machine has no keyboard
	consent := "yes"
	if asks {
		consent = "no"
	}
	wipe(consent)
	before := written(t, stick)
	target := filepath.Join(t.TempDir(), "inside.raw")
	dirtyDisk(t, target, 4<<30)

	box := harness.Boot(t, img, rawDisk(stick), on("qemu-xhci", "usb-storage"), inside(target))
	if asks {
		// Not the question: the kernel may print into the middle of it.
		box.Expect(harness.BootTime, "wayside: the installer waits at the console")
		press(t, box, "y", "e", "s", "ret")
	}
	box.Expect(harness.BootTime, "wayside: installing: write")
	if err := box.PowerCut(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{512, 4<<30 - 512} {
		if got := bytesAt(t, target, at, 8); bytes.Equal(got, []byte("EFI PART")) {
			t.Errorf("a disk that is half written has a partition table at byte %d", at)
		}
	}
	if got := written(t, stick); got != before {
		t.Error("the stick was written to")
	}

	wipe("yes") // nobody is there
	if err := box.VM.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	box.Expect(harness.BootTime, `wayside: installed on /dev/nvme0n1\. Remove the stick\.`)
	ctx, cancel := context.WithTimeout(t.Context(), harness.BootTime)
	defer cancel()
	if exit, err := box.Wait(ctx); err != nil || exit.Reason != "guest-shutdown" {
		t.Fatalf("after the installation: got %v, %v; want the machine to switch itself off", exit, err)
	}
	esp := harness.OpenPartition(t, target, layout.ESP)
	fat, err := disk.OpenFAT(esp, esp.Info.Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fat.ReadFile(layout.ESPInstall); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was installed would install again: reading its install file gives %v", err)
	}

	box = harness.Boot(t, img, rawDisk(target), on("", "nvme,serial=inside"), chipsetWatchdog)
	box.WaitReady()
	if harness.Arch(t) == "amd64" {
		// Its driver comes beside the services, and it is armed after that.
		box.Eventually(harness.BootTime, "the chipset's watchdog is armed", func(ctx context.Context) error {
			s, err := box.Status(ctx)
			if err == nil && s.Box.Watchdog != "iTCO_wdt" {
				err = fmt.Errorf("the watchdog is %q", s.Box.Watchdog)
			}
			return err
		})
	}
	got := box.Look().Box
	if got.Board != slug || got.Verity != "ok" {
		t.Errorf("got board %q with verity %q, want %s and ok", got.Board, got.Verity, slug)
	}
	if got.Profile.Site != "shop-0042" || got.Profile.Source != "boot partition" || got.Slot != "root-a" {
		t.Errorf("got site %q from %q in slot %q, want shop-0042 from the boot partition in root-a", got.Profile.Site, got.Profile.Source, got.Slot)
	}
	for _, p := range got.Problems {
		if strings.Contains(p, "install") || strings.Contains(p, "partition") {
			t.Errorf("the box complains: %s", p)
		}
	}
}

// chipsetWatchdog leaves a machine the watchdog of its chipset, which is q35's
// ICH9 and needs lpc_ich.
func chipsetWatchdog(c *qemu.Config) {
	board := *c.Board.QEMU
	if c.Board.Arch == "amd64" {
		board.Watchdog = ""
	}
	c.Board.QEMU = &board
}

// inside gives the machine a second disk, as boxes have it soldered in.
func inside(file string) func(*qemu.Config) {
	return func(c *qemu.Config) {
		c.Extra = append(c.Extra,
			"-blockdev", "driver=raw,node-name=inside,file.driver=file,file.filename="+file,
			"-device", "nvme,serial=inside,drive=inside")
	}
}

// dirtyDisk is a disk that was in use: rubbish where an image has free blocks
// and partition tables were.
func dirtyDisk(t *testing.T, file string, size int64) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	rubbish := bytes.Repeat([]byte("EFI PART"), 4<<20/8)
	for _, at := range []int64{0, 1 << 20, 60 << 20, 257 << 20, 1025 << 20, size - 4<<20} {
		if _, err := f.WriteAt(rubbish, at); err != nil {
			t.Fatal(err)
		}
	}
}

func bytesAt(t *testing.T, file string, at int64, n int) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	return b
}

// written is when a file was changed last.
func written(t *testing.T, file string) time.Time {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.ModTime()
}
