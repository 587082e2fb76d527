package secureboot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

// TestEncryption follows an encrypted box: its first boot, a signed update, a
// TPM that was cleared, and the recovery key. Nothing but a person with the
// key brings the data back then, and the box says so.
func TestEncryption(t *testing.T) {
	harness.NeedVM(t)
	if !harness.HasTPM(t) {
		t.Skipf("board %s has no TPM in QEMU", harness.Board)
	}
	img := build(t, "--encryption", "tpm")
	disk, work := copyImage(t, img), t.TempDir()
	box := harness.Boot(t, img, enrolled(t), rawDisk(t, disk), func(c *qemu.Config) { c.TPM, c.Work = true, work })
	key := box.Expect(harness.BootTime, `RECOVERY KEY of this box: ([a-z2-7-]{39})`)[1]
	box.WaitReady()
	wantEncryption(t, box, "tpm")
	harness.CreateTopic(t, box.Addr("kafka"), "kept", 1)
	harness.Kcat(t, box.Addr("kafka"), "a record\n", "-P", "-t", "kept")
	box.PowerOff()

	t.Run("cryptsetup", func(t *testing.T) {
		for _, role := range []layout.Role{layout.State, layout.Data} {
			part := harness.Extract(t, disk, role)
			if out := harness.Tool(t, "cryptsetup", "luksDump", part); !strings.Contains(out, "wayside-tpm2") {
				t.Errorf("%s: cryptsetup shows no token of the TPM's:\n%s", role, out)
			}
			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
				t.Fatal(err)
			}
			harness.Tool(t, "cryptsetup", "open", "--test-passphrase", "--key-file", file, part)
			os.Remove(part)
		}
	})

	t.Run("signed update", func(t *testing.T) {
		path, _ := harness.Inspect(t, img.Path)
		update := build(t, "--encryption", "tpm", "--version", "0.9.0")
		updatePath, _ := harness.Inspect(t, update.Path)
		copySlot(t, disk, update)
		harness.PutOnBootPartition(t, disk, path, nil)
		harness.PutOnBootPartition(t, disk, updatePath, harness.ReadBootPartition(t, update.Path, updatePath))
		box.PowerOn()
		wantEncryption(t, box, "tpm")
		if got := box.Look().Box.Version; got != "0.9.0" {
			t.Errorf("got version %s, want the update", got)
		}
		wantRecord(t, box)
		if strings.Count(box.Console().Text(), "RECOVERY KEY") != 1 {
			t.Error("the recovery key was shown again")
		}
		box.PowerOff()
	})

	t.Run("TPM cleared", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(work, qemu.TPMState)); err != nil {
			t.Fatal(err)
		}
		if err := box.VM.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
		box.Expect(harness.BootTime, `state is locked: the TPM does not give its key`)
		box.Eventually(harness.BootTime, "the status page", pageUp(box))
		wantEncryption(t, box, "locked")
		if text := strings.Join(box.Look().Box.Problems, "\n"); !strings.Contains(text, layout.ESPRecovery) {
			t.Errorf("the box does not say what to do:\n%s", text)
		}
		box.PowerOff()
	})

	t.Run("recovery key", func(t *testing.T) {
		harness.PutOnBootPartition(t, disk, layout.ESPRecovery, []byte(strings.ToUpper(key)+"\r\n"))
		box.PowerOn()
		wantEncryption(t, box, "recovery key")
		wantRecord(t, box)
		box.PowerOff()
		harness.PutOnBootPartition(t, disk, layout.ESPRecovery, nil)
		box.PowerOn()
		wantEncryption(t, box, "tpm")
		wantRecord(t, box)
	})
}

// copySlot writes an image's root over that of a disk.
func copySlot(t *testing.T, disk string, img harness.Image) {
	t.Helper()
	to := harness.OpenPartition(t, disk, layout.RootA)
	from := harness.Extract(t, img.Path, layout.RootA)
	harness.Tool(t, "dd", "if="+from, "of="+disk, "bs=1M", "count=128", "conv=notrunc", "oflag=seek_bytes", "status=none",
		fmt.Sprintf("seek=%d", to.Info.Start))
}

// pageUp asks for the status, whatever it says.
func pageUp(box *harness.Box) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := box.Status(ctx)
		return err
	}
}

func wantEncryption(t *testing.T, box *harness.Box, want string) {
	t.Helper()
	if got := box.Look().Box; got.Encryption != want {
		t.Errorf("got encryption %q, want %q; problems: %q", got.Encryption, want, got.Problems)
	}
}

func wantRecord(t *testing.T, box *harness.Box) {
	t.Helper()
	records := harness.ReadAll(t, box.Addr("kafka"), "kept")
	if len(records) != 1 || string(records[0].Value) != "a record" {
		t.Errorf("got %d records, want the one that was written", len(records))
	}
}
