// Package boot checks what a box promises of itself through the whole chain,
// firmware, boot loader, signed kernel image, init, verified root, services:
// it lays out its disk, keeps its profile, notices an altered root, and
// survives services and a PID 1 that crash or hang.
package boot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/erofs/go-erofs"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

const profile = `version: 1
site: shop-0042
connect:
  mqtt:
    routes:
      - {filter: "shop/#", topic: sensors}
`

// rawDisk gives the box a disk that tools can look at when it is off.
func rawDisk(file string) func(*qemu.Config) {
	return func(c *qemu.Config) { c.Disk, c.DiskFile = qemu.DiskCopy, file }
}

func TestLifeOfABox(t *testing.T) {
	harness.NeedVM(t)
	img := harness.Build(t, profile)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	box := harness.Boot(t, img, rawDisk(disk), harness.AllProcessors)
	for _, line := range []string{"wayside: slot root-a", "wayside: root verified", "wayside: first boot", "wayside: ready"} {
		box.Expect(harness.BootTime, line)
	}
	box.WaitReady()
	t.Run("page", func(t *testing.T) { checkPage(t, box) })
	box.PowerOff()
	t.Run("disk", func(t *testing.T) { checkDisk(t, img, disk) })

	t.Run("bad profile", func(t *testing.T) {
		bad := strings.Replace(profile, "shop-0042", "Shop 42", 1)
		harness.PutOnBootPartition(t, disk, layout.ESPSite, []byte(bad))
		box.PowerOn()
		if !strings.Contains(box.Console().Text(), "wayside: site profile rejected: ") {
			t.Error("the console does not say that the profile is rejected")
		}
		s := box.Look()
		if s.Box.Profile.Site != "shop-0042" || s.Box.Profile.Source != "last good" {
			t.Errorf("got site %q from %q, want shop-0042 from the last good profile", s.Box.Profile.Site, s.Box.Profile.Source)
		}
		checkComplaint(t, s.Box.Profile.Errors)
		if page := box.Get("/"); !strings.Contains(page, "site.yaml:2:") {
			t.Error("the page does not show file and line of the profile's error")
		}
		box.PowerOff()
	})

	t.Run("good profile again, and a claim", func(t *testing.T) {
		harness.PutOnBootPartition(t, disk, layout.ESPSite, []byte(strings.Replace(profile, "shop-0042", "shops", 1)))
		token := filepath.Join(t.TempDir(), "token")
		text := claimFor(t, "shop-0043", token)
		harness.PutOnBootPartition(t, disk, layout.ESPClaim, text)
		box.PowerOn()
		if got := box.Look().Box; got.Profile.Site != "shop-0043" || len(got.Profile.Errors) != 0 || len(got.Problems) != 0 {
			t.Errorf("got profile %+v and problems %q, want shop-0043 without errors", got.Profile, got.Problems)
		}
		checkClaimed(t, box, disk, token, text)
		if n := strings.Count(box.Console().Text(), "wayside: first boot"); n == 0 {
			t.Error("the transcript lost the first boot")
		}
	})
}

// claimFor makes the claim of a box, with a token for its page.
func claimFor(t *testing.T, name, token string) []byte {
	t.Helper()
	if err := os.WriteFile(token, []byte("a token of enough letters"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "box.claim")
	if out, err := harness.Command(t, "claim", "new", "--name", name, "--secret", "api.token=@"+token, "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("wayside claim new: %v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkClaimed uses a secret of a claim, and looks for the claim on the boot
// partition.
func checkClaimed(t *testing.T, box *harness.Box, disk, token string, text []byte) {
	t.Helper()
	out, err := harness.Command(t, "site", "back", "--box", "http://"+box.Addr("console"), "--token-file", token).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "there is no profile to go back to") {
		t.Errorf("wayside site back: got %v, %s; want the token believed, and no profile to go back to", err, out)
	}
	esp := harness.OpenPartition(t, disk, layout.ESP)
	all, err := io.ReadAll(io.NewSectionReader(esp, 0, esp.Info.Size))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(all, text[:200]) || bytes.Contains(all, text[200:400]) {
		t.Error("the boot partition still holds the claim, or pieces of it")
	}
}

// checkComplaint wants the words of `wayside site check` on the box.
func checkComplaint(t *testing.T, got []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(profile, "shop-0042", "Shop 42", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := harness.Command(t, "site", "check", file).CombinedOutput()
	if err == nil {
		t.Error("wayside site check: got no error for the bad profile")
	}
	_, want, _ := strings.Cut(strings.TrimSpace(string(out)), "site.yaml:")
	if len(got) != 1 || !strings.HasSuffix(got[0], want) || !strings.HasPrefix(want, "2:") {
		t.Errorf("the box complains %q, wayside site check %q; want the same, of line 2", got, out)
	}
}

func checkPage(t *testing.T, box *harness.Box) {
	page := box.Get("/")
	for _, want := range []string{"shop-0042", "root-a", "0.1.0-dev", "broker", "replicator", "mqtt", "console"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	s := box.Look()
	if s.Box.Verity != "ok" || s.Box.Watchdog == "" {
		t.Errorf("got verity %q and watchdog %q, want ok and a hardware watchdog", s.Box.Verity, s.Box.Watchdog)
	}
	if metrics := box.Get("/metrics"); !strings.Contains(metrics, `service="broker"`) {
		t.Error("the metrics have none of the broker's")
	}
}

// checkDisk has foreign tools look at what the first boot made of a disk.
func checkDisk(t *testing.T, img harness.Image, disk string) {
	if out := harness.Tool(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	for role, tool := range map[layout.Role][]string{
		layout.ESP: {"fsck.vfat", "-n"}, layout.State: {"e2fsck", "-fn"}, layout.Data: {"e2fsck", "-fn"},
	} {
		harness.Tool(t, tool[0], append(slices.Clone(tool[1:]), harness.Extract(t, disk, role))...)
	}
	before, after := harness.OpenPartition(t, img.Path, layout.ESP), harness.OpenPartition(t, disk, layout.ESP)
	if before.Info.GUID == after.Info.GUID {
		t.Error("the boot partition still has the image's GUID: two boxes would look the same")
	}
}

// TestAlteredRoot boots a disk of which one byte of a program was altered.
func TestAlteredRoot(t *testing.T) {
	harness.NeedVM(t)
	img := harness.Build(t, "")
	disk := copyImage(t, img)
	flipInFile(t, disk, layout.RootServices)
	box := harness.Boot(t, img, rawDisk(disk))
	box.Expect(harness.BootTime, `device-mapper: verity: .*data block \d+ is corrupted`)
	box.Expect(harness.BootTime, `wayside: .*corrupted`)
}

// TestAlteredTree boots a disk of which the top of the hash tree was altered:
// no slot belongs to the signed kernel image any more.
func TestAlteredTree(t *testing.T) {
	harness.NeedVM(t)
	img := harness.Build(t, "")
	disk := copyImage(t, img)
	_, words := harness.Inspect(t, img.Path)
	blocks, err := strconv.ParseInt(words[layout.CmdDataBlocks], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	harness.Flip(t, harness.OpenPartition(t, disk, layout.RootA), (blocks+1)*layout.VerityBlock)
	box := harness.Boot(t, img, rawDisk(disk))
	box.Expect(harness.BootTime, `wayside: .*root`)
	box.Expect(harness.BootTime, `wayside: reboot: `)
}

// TestServiceCrashes has a service exit, sees it restarted, and the page tell.
func TestServiceCrashes(t *testing.T) {
	harness.NeedVM(t)
	box := harness.Boot(t, harness.Build(t, ""), func(c *qemu.Config) {
		c.FWCfg = map[string]string{"opt/io.wayside/test.service": "replicator:crash"}
		// A box whose clock lost its battery.
		c.Extra = []string{"-rtc", "base=1970-01-01T00:00:00"}
	})
	waitService(t, box, "replicator", func(s manifest.Service) bool { return s.Restarts > 0 && s.Ready })
	box.WaitReady()
	if page := box.Get("/"); !strings.Contains(page, "exit status 70") {
		t.Error("the page does not show how the replicator ended")
	}
	if booted := box.Look().Box.Booted; booted.Year() < 2026 {
		t.Errorf("the box believes to have booted at %v, before it was built", booted)
	}
}

// TestServiceHangs has a service stop answering its watchdog.
func TestServiceHangs(t *testing.T) {
	harness.NeedVM(t)
	box := harness.Boot(t, harness.Build(t, ""), func(c *qemu.Config) {
		c.FWCfg = map[string]string{"opt/io.wayside/test.service": "mqtt:hang"}
	})
	waitService(t, box, "mqtt", func(s manifest.Service) bool {
		return s.Restarts > 0 && s.Ready && strings.Contains(s.LastExit, "watchdog")
	})
}

func waitService(t *testing.T, box *harness.Box, name string, ok func(manifest.Service) bool) {
	t.Helper()
	box.Eventually(harness.BootTime, name+" comes back", func(ctx context.Context) error {
		if exit := box.Exit(); exit != nil {
			t.Fatalf("the box went off: %v", exit)
		}
		s, err := box.Status(ctx)
		if err == nil && !ok(s.Service(name)) {
			err = fmt.Errorf("it is %+v", s.Service(name))
		}
		return err
	})
}

// TestHungInit hangs PID 1: the hardware watchdog resets the machine, and it
// boots again.
func TestHungInit(t *testing.T) {
	harness.NeedVM(t)
	box := harness.Boot(t, harness.Build(t, ""), func(c *qemu.Config) {
		c.FWCfg = map[string]string{"opt/io.wayside/test.hang": "main-loop"}
	})
	ctx, cancel := context.WithTimeout(t.Context(), harness.BootTime)
	defer cancel()
	if _, err := box.ExpectEvent(ctx, "WATCHDOG"); err != nil {
		t.Fatal(err)
	}
	box.Console().Skip()
	box.Expect(harness.BootTime, "wayside: slot root-a")
}

// copyImage is a writable copy of an image.
func copyImage(t *testing.T, img harness.Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	harness.Tool(t, "cp", "--sparse=always", img.Path, file)
	return file
}

// flipInFile alters one byte in the first block of a file of slot A.
func flipInFile(t *testing.T, disk, name string) {
	t.Helper()
	p := harness.OpenPartition(t, disk, layout.RootA)
	root, err := erofs.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	f, err := root.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, layout.VerityBlock)
	if _, err := io.ReadFull(f, block); err != nil {
		t.Fatal(err)
	}
	harness.Flip(t, p, harness.Find(t, p, block)+100)
}
