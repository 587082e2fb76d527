// Package secureboot checks what a box promises under Secure Boot: it runs
// what its owner signed and nothing else, comes back by itself from a kernel
// image that the firmware refuses, takes keys only when asked to, and measures
// what was predicted.
package secureboot

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/secureboot"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/qemu/varstore"
	"github.com/waysideos/wayside/test/harness"
)

// keyDir holds the keys of these tests, not the developer's own.
func keyDir(t *testing.T) string { return filepath.Join(harness.CacheDir(t), "secureboot-keys") }

func platform(t *testing.T) keys.Platform {
	t.Helper()
	p, err := keys.LoadOrCreatePlatform(keyDir(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func build(t *testing.T, args ...string) harness.Image {
	t.Helper()
	if !harness.HasSecureBoot(t) {
		t.Skipf("board %s has no firmware with Secure Boot in QEMU", harness.Board)
	}
	platform(t)
	return harness.BuildBoard(t, harness.Board, "", append(args, "--keys", keyDir(t))...)
}

// enrolled is a machine that belongs to the keys of these tests.
func enrolled(t *testing.T) func(*qemu.Config) {
	t.Helper()
	p := platform(t)
	vars, err := secureboot.Variables(p, nil, p.PK.Cert.NotBefore)
	if err != nil {
		t.Fatal(err)
	}
	boot := &qemu.SecureBoot{}
	for _, v := range vars {
		boot.Variables = append(boot.Variables, varstore.Variable{
			Name: v.Name, Vendor: varstore.GUID(v.Vendor), Attributes: secureboot.Attributes, Time: v.Time, Data: v.List,
		})
	}
	return func(c *qemu.Config) { c.SecureBoot = boot }
}

// rawDisk gives the box a disk that was flashed with the image in file.
func rawDisk(t *testing.T, file string) func(*qemu.Config) {
	t.Helper()
	if err := os.Truncate(file, qemu.DefaultDiskSize); err != nil {
		t.Fatal(err)
	}
	return func(c *qemu.Config) { c.Disk, c.DiskFile = qemu.DiskCopy, file }
}

func copyImage(t *testing.T, img harness.Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	harness.Tool(t, "cp", "--sparse=always", img.Path, file)
	return file
}

// TestSignedBoot boots what was signed and, where the board has a TPM, compares
// what was measured with what `wayside inspect` says of the image.
func TestSignedBoot(t *testing.T) {
	harness.NeedVM(t)
	img := build(t)
	box := harness.Boot(t, img, enrolled(t), func(c *qemu.Config) { c.TPM = harness.HasTPM(t) })
	box.WaitReady()
	got := box.Look().Box
	if got.SecureBoot != "on" {
		t.Errorf("got Secure Boot %q, want on", got.SecureBoot)
	}
	if !harness.HasTPM(t) {
		t.Logf("board %s has no TPM in QEMU: nothing is measured", harness.Board)
		return
	}
	out, err := harness.Command(t, "inspect", "--json", img.Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Kernels []struct {
			PCRs map[int]string `json:"pcrs"`
		} `json:"kernel_images"`
	}
	if err := json.Unmarshal(out, &report); err != nil || len(report.Kernels) != 1 {
		t.Fatalf("wayside inspect --json: %v\n%s", err, out)
	}
	delete(got.PCRs, 7) // depends on the machine's own variables
	if diff := cmp.Diff(map[int]string{4: report.Kernels[0].PCRs[4], 11: report.Kernels[0].PCRs[11]}, got.PCRs); diff != "" {
		t.Errorf("registers of the TPM (-predicted +measured):\n%s", diff)
	}
}

// TestRefusedKernelImages puts kernel images beside the good one that would be
// started first, one without a signature and one with a byte of its command
// line altered. The machine gets past both without anybody's help.
func TestRefusedKernelImages(t *testing.T) {
	harness.NeedVM(t)
	img := build(t)
	path, _ := harness.Inspect(t, img.Path)
	newer := build(t, "--version", "0.9.0")
	newerPath, _ := harness.Inspect(t, newer.Path)
	signed := harness.ReadBootPartition(t, newer.Path, newerPath)

	disk := copyImage(t, img)
	put := func(name string, data []byte) {
		harness.PutOnBootPartition(t, disk, layout.ESPUKIDir+"/"+name, data)
	}
	put("wayside-0.9.0+1.efi", unsigned(t, signed))
	put("wayside-0.9.1+1.efi", altered(t, signed))

	box := harness.Boot(t, img, enrolled(t), rawDisk(t, disk))
	for range 2 {
		box.Expect(harness.BootTime, `Error loading .*Access denied`)
		box.Expect(harness.BootTime, `wayside: the boot manager started nothing`)
	}
	box.WaitReady()
	if got := box.Look().Box; got.SecureBoot != "on" || got.Version != defaultVersion(t, path) {
		t.Errorf("got version %q with Secure Boot %q, want the signed one, of %s", got.Version, got.SecureBoot, path)
	}
}

// defaultVersion is the version in a kernel image's file name.
func defaultVersion(t *testing.T, path string) string {
	t.Helper()
	name := filepath.Base(path)
	return name[len("wayside-") : len(name)-len(".efi")]
}

// TestUnsignedLoader takes the signatures off the two programs that come
// before the kernel image, in turn. Nothing of the disk runs then.
func TestUnsignedLoader(t *testing.T) {
	harness.NeedVM(t)
	img := build(t)
	for _, name := range []string{
		layout.ESPLoader + "/" + layout.LoaderFile(harness.Arch(t)), layout.BootManager(harness.Arch(t)),
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			disk := copyImage(t, img)
			harness.PutOnBootPartition(t, disk, name, unsigned(t, harness.ReadBootPartition(t, disk, name)))
			box := harness.Boot(t, img, enrolled(t), rawDisk(t, disk))
			box.Expect(harness.BootTime, `BdsDxe: failed to (load|start) .*: (Access Denied|Security Violation)`)
			if text := box.Console().Text(); bytes.Contains([]byte(text), []byte("EFI stub")) {
				t.Errorf("the kernel was started:\n%s", text)
			}
		})
	}
}

// TestEnrolment boots a machine in setup mode: from an image that was not
// asked to enrol it stays as it is, from one that was it becomes its owner's.
func TestEnrolment(t *testing.T) {
	harness.NeedVM(t)
	setup := func(c *qemu.Config) { c.SecureBoot = &qemu.SecureBoot{} }
	t.Run("not asked", func(t *testing.T) {
		box := harness.Boot(t, build(t), setup)
		box.WaitReady()
		if got := box.Look().Box.SecureBoot; got != "setup mode" {
			t.Errorf("got Secure Boot %q, want setup mode", got)
		}
	})
	t.Run("asked", func(t *testing.T) {
		box := harness.Boot(t, build(t, "--enroll-keys=if-safe"), setup)
		box.Expect(harness.BootTime, `Custom Secure Boot keys successfully enrolled`)
		box.WaitReady()
		if got := box.Look().Box.SecureBoot; got != "on" {
			t.Errorf("got Secure Boot %q, want on", got)
		}
	})
}

// certTable is where the headers of a PE file say that its signatures are.
func certTable(t *testing.T, pe []byte) []byte {
	t.Helper()
	if len(pe) < 0x200 {
		t.Fatalf("a program of %d bytes", len(pe))
	}
	optional := binary.LittleEndian.Uint32(pe[0x3c:]) + 24
	return pe[optional+112+4*8:][:8]
}

// unsigned takes the signature off a program.
func unsigned(t *testing.T, pe []byte) []byte {
	t.Helper()
	pe = bytes.Clone(pe)
	entry := certTable(t, pe)
	at := binary.LittleEndian.Uint32(entry)
	if at == 0 || int(at) >= len(pe) {
		t.Fatal("the program is not signed")
	}
	clear(entry)
	return pe[:at]
}

// altered flips a bit of a kernel image's command line.
func altered(t *testing.T, pe []byte) []byte {
	t.Helper()
	pe = bytes.Clone(pe)
	at := bytes.Index(pe, []byte(layout.CmdRootHash+"="))
	if at < 0 {
		t.Fatal("the kernel image has no root hash on its command line")
	}
	pe[at+len(layout.CmdRootHash)+1] ^= 1
	return pe
}
