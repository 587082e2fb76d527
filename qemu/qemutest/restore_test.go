package qemutest

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu"
)

// beeper is a guest of a few bytes: it prints a dot on COM1 and stands still.
const beeper = "\xba\xf8\x03\xb0\x2e\xee\xf4\xeb\xfd" // mov dx,0x3f8; mov al,'.'; out dx,al; hlt; jmp to the hlt

func beeperConfig(t *testing.T) qemu.Config {
	t.Helper()
	dir := t.TempDir()
	rom := make([]byte, 64<<10)
	copy(rom, beeper)
	copy(rom[len(rom)-16:], "\xea\x00\x00\x00\xf0") // reset vector: jmp f000:0000
	for name, data := range map[string][]byte{"rom": rom, "image": make([]byte, 64<<10)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return qemu.Config{
		Board: boards.Board{Slug: "rom", QEMU: &boards.QEMU{
			System: "x86_64", Machine: "q35", CPU: "max", MemoryMiB: 16, SMP: 1,
			Disk: "virtio-blk-pci", NIC: "virtio-net-pci",
		}},
		Image:    filepath.Join(dir, "image"),
		Firmware: qemu.Firmware{Code: filepath.Join(dir, "rom")},
		DiskSize: 1 << 20,
		Accel:    "tcg",
		Forwards: []qemu.Forward{{Name: "x", Host: "127.0.0.1:0", Guest: 1}},
	}
}

func TestNew(t *testing.T) {
	var work string
	t.Run("test", func(t *testing.T) {
		vm := New(t, beeperConfig(t))
		work = vm.Config().Work
		if _, err := vm.Expect(t.Context(), regexp.MustCompile(`\.`)); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(work); work != "" && !os.IsNotExist(err) {
		t.Errorf("work folder of a test that passed: got %v, want none", err)
	}
}

func TestRestoreBootsOnce(t *testing.T) {
	cache, cfg, boots := t.TempDir(), beeperConfig(t), 0
	ready := func(ctx context.Context, vm *qemu.VM) error {
		boots++
		_, err := vm.Expect(ctx, regexp.MustCompile(`\.`))
		return err
	}
	addrs := map[string]bool{}
	for range 2 {
		t.Run("test", func(t *testing.T) {
			vm := Restore(t, cache, cfg, ready)
			addrs[vm.Addr("x")] = true
			if got := vm.Console().Text(); got != "" {
				t.Errorf("console: got %q, want nothing: the guest has not been booted", got)
			}
		})
	}
	if !t.Failed() && !t.Skipped() && (boots != 1 || len(addrs) != 1) {
		t.Errorf("two restores: got %d boots and addresses %v, want one of each", boots, addrs)
	}
	t.Run("side by side", func(t *testing.T) {
		one, two := Restore(t, cache, cfg, ready), Restore(t, cache, cfg, ready)
		if one.Addr("x") == two.Addr("x") {
			t.Errorf("both machines are at %s", one.Addr("x"))
		}
	})
}

func TestPrune(t *testing.T) {
	cache := t.TempDir()
	old := time.Now().Add(-time.Hour)
	for i := range keepSnapshots + 3 {
		dir := filepath.Join(cache, string(rune('a'+i)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "snapshot.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := old.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(dir, when, when); err != nil {
			t.Fatal(err)
		}
	}
	release, ok, err := qemu.TryLock(filepath.Join(cache, "a.lock")) // the oldest is in use
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer release()
	prune(cache)
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true, "g": true} {
		if _, err := os.Stat(filepath.Join(cache, name)); (err == nil) != want {
			t.Errorf("snapshot %s: there = %v, want %v", name, err == nil, want)
		}
	}
}
