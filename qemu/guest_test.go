package qemu

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/waysideos/wayside/boards"
)

// guestCode is a guest that fits in a ROM and boots in no time; what it does
// is told in testdata/guest.asm, its source.
const guestCode = "" +
	"\xfa\x31\xc0\x8e\xd0\xbc\x00\x70\x8e\xd8\x8e\xc0\xbe\x22\x01\xe8" +
	"\xf3\x00\x66\xb8\x40\x0b\x00\x80\x66\xbb\x01\x06\x00\x00\xe8\xa8" +
	"\x00\x66\xb8\x80\x0b\x00\x80\x66\xbb\x01\x00\x00\x00\xe8\x99\x00" +
	"\x66\xb8\x04\x0b\x00\x80\x66\xbb\x01\x00\x00\x00\xe8\x8a\x00\xba" +
	"\x02\x06\xb8\x00\x01\xef\xb3\x08\xb0\x20\xe8\x8a\x00\xe8\xac\x00" +
	"\xb9\x00\x01\xbf\x00\x10\xba\xf0\x01\xfc\xf3\x6d\xbe\x29\x01\xe8" +
	"\xa3\x00\xa0\x00\x10\xe8\xab\x00\xb0\x0a\xe8\xa6\x00\xb3\x08\xb0" +
	"\x30\xe8\x63\x00\xe8\x85\x00\x88\xd8\x04\x39\x88\xc4\xb9\x00\x01" +
	"\xba\xf0\x01\xef\xe2\xfd\xe8\x6a\x00\x80\xfb\x0b\x75\x0f\xba\xf7" +
	"\x01\xb0\xe7\xee\xe8\x5c\x00\xbe\x2e\x01\xe8\x68\x00\xfe\xc3\x80" +
	"\xfb\x10\x72\xcb\xbe\x37\x01\xe8\x5b\x00\xbe\x40\x01\xe8\x55\x00" +
	"\xba\x00\x06\xed\xa9\x00\x01\x74\xf7\xbe\x47\x01\xe8\x46\x00\xba" +
	"\x04\x06\xb8\x00\x20\xef\xf4\xeb\xfd\xba\xf8\x0c\x66\xef\xba\xfc" +
	"\x0c\x66\x89\xd8\x66\xef\xc3\x50\xe8\x18\x00\xba\xf2\x01\xb0\x01" +
	"\xee\x42\x88\xd8\xee\x42\x30\xc0\xee\x42\xee\x42\xb0\xe0\xee\x42" +
	"\x58\xee\xc3\xba\xf7\x01\xec\xa8\x80\x75\xf8\xc3\xba\xf7\x01\xec" +
	"\xa8\x08\x74\xf8\xc3\x2e\x8a\x04\x46\x84\xc0\x74\x05\xe8\x03\x00" +
	"\xeb\xf3\xc3\x50\xba\xfd\x03\xec\xa8\x20\x74\xf8\x58\xba\xf8\x03" +
	"\xee\xc3\x68\x65\x6c\x6c\x6f\x0a\x00\x6f\x6c\x64\x20\x00\x66\x6c" +
	"\x75\x73\x68\x65\x64\x0a\x00\x77\x72\x69\x74\x74\x65\x6e\x0a\x00" +
	"\x72\x65\x61\x64\x79\x0a\x00\x62\x79\x65\x0a\x00"

// assemble is the recipe in the head of each source.
const assemble = `as -o "$1/o" "$2" && ld -Ttext=0 --oformat binary -e 0 -o "$1/bin" "$1/o"`

func TestGuestsAreTheirSources(t *testing.T) {
	for _, tool := range []string{"as", "ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian package binutils)", tool)
		}
	}
	for source, code := range map[string]string{"probe.asm": probeCode, "guest.asm": guestCode, "sleeper.asm": sleeperCode} {
		dir := t.TempDir()
		out, err := exec.Command("sh", "-c", assemble, "sh", dir, filepath.Join("testdata", source)).CombinedOutput()
		if err != nil {
			t.Skipf("this machine's assembler is not one for x86: %s", out)
		}
		got, err := os.ReadFile(filepath.Join(dir, "bin"))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != code {
			t.Errorf("%s: the bytes in Go are not what the source assembles to", source)
		}
	}
}

// guestConfig is a machine that runs guestCode; it skips where QEMU is
// missing, and fails in CI.
func guestConfig(t *testing.T, mode DiskMode) Config {
	t.Helper()
	_, err := Find(t.Context(), "x86_64")
	if errors.Is(err, ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"rom": romImage(guestCode), "image": make([]byte, 64<<10)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Config{
		Board: boards.Board{Slug: "rom", QEMU: &boards.QEMU{
			System: "x86_64", Machine: "pc", CPU: "max", MemoryMiB: 16, SMP: 1,
			Disk: "ide-hd,bus=ide.0", NIC: "virtio-net-pci", Watchdog: "i6300esb",
		}},
		Image:    filepath.Join(dir, "image"),
		Firmware: Firmware{Code: filepath.Join(dir, "rom")},
		Work:     filepath.Join(dir, "work"),
		Disk:     mode,
		DiskSize: 1 << 20,
		Accel:    "tcg",
	}
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// boot starts a machine and waits until its guest is ready.
func boot(t *testing.T, ctx context.Context, cfg Config) *VM {
	t.Helper()
	vm, err := Start(ctx, cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	expect(t, ctx, vm, `^ready$`)
	return vm
}

func expect(t *testing.T, ctx context.Context, vm *VM, pattern string) []string {
	t.Helper()
	match, err := vm.Expect(ctx, regexp.MustCompile(`(?m)`+pattern))
	if err != nil {
		t.Fatal(err)
	}
	return match
}

// contextWithin ends soon: for waits that are meant to fail.
func contextWithin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 100*time.Millisecond)
}
