package qemu

import (
	"bytes"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestPowerButtonShutsDown(t *testing.T) {
	ctx := testContext(t)
	vm := boot(t, ctx, guestConfig(t, DiskOverlay))
	if err := vm.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	exit := vm.Exit()
	if exit == nil || !exit.CameUp || exit.Asked != "shut down" || exit.Reason != "guest-shutdown" {
		t.Errorf("exit: got %+v, want one that came up and was shut down by the guest", exit)
	}
	if !strings.HasSuffix(vm.Console().Text(), "ready\nbye\n") {
		t.Errorf("console: got %q, want it to end with the guest's good-bye", vm.Console().Text())
	}
}

func TestDiskOutlivesPowerCutAndReboot(t *testing.T) {
	for name, mode := range map[string]DiskMode{"overlay": DiskOverlay, "copy": DiskCopy, "dropping": DiskDropping} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			cfg := guestConfig(t, mode)
			vm := boot(t, ctx, cfg)
			if err := vm.PowerCut(); err != nil {
				t.Fatal(err)
			}
			if exit := vm.Exit(); exit.Asked != "power cut" {
				t.Errorf("exit after the power cut: got %v", exit)
			}
			if err := vm.PowerOn(ctx); err != nil {
				t.Fatal(err)
			}
			// A plain cut keeps what was written, flushed or not.
			expect(t, ctx, vm, `^old A$`)
			expect(t, ctx, vm, `^ready$`)
			if err := vm.Reboot(ctx); err != nil {
				t.Fatal(err)
			}
			expect(t, ctx, vm, `^hello$`)
			image, err := os.ReadFile(cfg.Image)
			if err != nil || !bytes.Equal(image, make([]byte, 64<<10)) {
				t.Errorf("the image was written to (%v)", err)
			}
		})
	}
}

func TestPowerCutDropsWhatWasNotFlushed(t *testing.T) {
	ctx := testContext(t)
	cfg := guestConfig(t, DiskDropping)
	vm := boot(t, ctx, cfg)
	lost := map[string]bool{}
	for seed := range uint64(6) {
		stats, err := vm.PowerCutDropping(seed)
		if err != nil {
			t.Fatal(err)
		}
		if got := stats.Kept + stats.Dropped; got != 4 {
			t.Errorf("seed %d: got %d sectors at stake, want the 4 after the flush", seed, got)
		}
		disk, err := os.ReadFile(vm.Config().diskPath())
		if err != nil {
			t.Fatal(err)
		}
		var first []byte
		for i := 8; i < 16; i++ {
			first = append(first, max(disk[i*512], '-'))
		}
		if string(first[:4]) != "ABCD" {
			t.Errorf("seed %d: sectors are %q, want the flushed ABCD first", seed, first)
		}
		lost[string(first)] = true
		// Clear the tail, so that the next cut starts from nothing.
		if err := os.WriteFile(vm.Config().diskPath(), make([]byte, len(disk)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := vm.PowerOn(ctx); err != nil {
			t.Fatal(err)
		}
		expect(t, ctx, vm, `^ready$`)
	}
	if len(lost) < 2 {
		t.Errorf("six cuts all left %v: nothing was dropped by chance", lost)
	}
}

func TestResetIsSeen(t *testing.T) {
	ctx := testContext(t)
	vm := boot(t, ctx, guestConfig(t, DiskOverlay))
	if err := vm.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.ExpectEvent(ctx, "RESET"); err != nil {
		t.Error(err)
	}
	expect(t, ctx, vm, `^old A$`)
}

func TestSaveAndRestore(t *testing.T) {
	ctx := testContext(t)
	cfg := guestConfig(t, DiskOverlay)
	cfg.Forwards = []Forward{{Name: "kafka", Host: "127.0.0.1:0", Guest: 9092}}
	cfg.Advertised = "kafka"
	key, err := SnapshotKey(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	vm := boot(t, ctx, cfg)
	dir := t.TempDir()
	if err := vm.Save(ctx, dir, key); err != nil {
		t.Fatal(err)
	}
	addr := vm.Addr("kafka")
	if err := vm.Shutdown(ctx); err != nil { // it went on after the save
		t.Fatal(err)
	}
	cfg.Work = t.TempDir()
	if _, err := Restore(ctx, dir, "other", cfg, discard()); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("restore under another key: got error %v, want ErrNoSnapshot", err)
	}
	again, err := Restore(ctx, dir, key, cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.Addr("kafka"); got != addr {
		t.Errorf("restored address: got %s, want the saved %s", got, addr)
	}
	if err := again.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if got, want := again.Console().Text(), "bye\n"; got != want {
		t.Errorf("console after restore: got %q, want %q: the guest was ready already", got, want)
	}
}

func TestRestoreNamesTheTakenPort(t *testing.T) {
	ctx := testContext(t)
	cfg := guestConfig(t, DiskOverlay)
	cfg.Forwards = []Forward{{Name: "kafka", Host: "127.0.0.1:0", Guest: 9092}}
	vm := boot(t, ctx, cfg)
	dir := t.TempDir()
	if err := vm.Save(ctx, dir, "key"); err != nil {
		t.Fatal(err)
	}
	cfg.Work = t.TempDir() // the first machine still holds the port
	_, err := Restore(ctx, dir, "key", cfg, discard())
	var port *PortError
	if !errors.As(err, &port) || port.Name != "kafka" {
		t.Errorf("restore while the port is taken: got error %v, want a PortError for kafka", err)
	}
}

func TestStartNamesTheTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := guestConfig(t, DiskOverlay)
	cfg.Forwards = []Forward{{Name: "mqtt", Host: l.Addr().String(), Guest: 1883}}
	_, err = Start(testContext(t), cfg, discard())
	var port *PortError
	if !errors.As(err, &port) || port.Name != "mqtt" {
		t.Errorf("start with a taken port: got error %v, want a PortError for mqtt", err)
	}
}

func TestNeverCameUpIsToldFromDied(t *testing.T) {
	ctx := testContext(t)
	cfg := guestConfig(t, DiskOverlay)
	cfg.Extra = []string{"-device", "no-such-device"}
	_, err := Start(ctx, cfg, discard())
	var exit *Exit
	if !errors.As(err, &exit) || exit.CameUp || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("start with a bad device: got error %v, want an Exit that never came up", err)
	}

	vm := boot(t, ctx, guestConfig(t, DiskOverlay))
	if err := vm.QMP(ctx, "quit", nil, nil); err != nil {
		t.Fatal(err)
	}
	_, err = vm.Expect(ctx, regexp.MustCompile(`never printed`))
	if !errors.As(err, &exit) || !exit.CameUp || exit.Asked != "" {
		t.Errorf("expect on a machine that died: got error %v, want an Exit that came up", err)
	}
}

func TestShutdownThatIsNotHeard(t *testing.T) {
	ctx := testContext(t)
	vm := boot(t, ctx, guestConfig(t, DiskOverlay))
	if err := vm.QMP(ctx, "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	expired, cancel := contextWithin(ctx)
	defer cancel()
	if err := vm.Shutdown(expired); err == nil {
		t.Error("shutdown of a guest that stands still: got no error")
	}
	if vm.Exit() == nil {
		t.Error("the machine is still on")
	}
}

func TestTemporaryWorkIsRemoved(t *testing.T) {
	cfg := guestConfig(t, DiskOverlay)
	cfg.Work = ""
	vm := boot(t, testContext(t), cfg)
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(vm.Config().Work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("work folder after close: got %v, want none", err)
	}
}

func TestProbeRunsUnderTCG(t *testing.T) {
	guestConfig(t, DiskOverlay) // skips without QEMU
	bin, err := Find(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	for _, cpu := range []string{"max", "qemu64"} {
		if err := runProbe(testContext(t), bin, "tcg", cpu); err != nil {
			t.Errorf("probe on -cpu %s: %v", cpu, err)
		}
	}
}

func TestChooseAccelerator(t *testing.T) {
	guestConfig(t, DiskOverlay) // skips without QEMU
	bin, err := Find(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	var a Accelerators
	start := time.Now()
	accel, why, err := a.Choose(testContext(t), bin, "auto")
	if err != nil || accel != "kvm" && accel != "tcg" {
		t.Fatalf("auto: got %q, error %v", accel, err)
	}
	t.Logf("auto: %s, %s, in %v", accel, why, time.Since(start))
	// The answer is remembered: a binary that cannot be run changes nothing.
	again, _, err := a.Choose(testContext(t), bin, "")
	if err != nil || again != accel {
		t.Errorf("second choice: got %q (%v), want %q", again, err, accel)
	}
	if _, _, err := a.Choose(testContext(t), bin, "hvf"); err == nil {
		t.Error("accelerator hvf: got no error")
	}
}

func TestSnapshotKeyDependsOn(t *testing.T) {
	base := guestConfig(t, DiskOverlay)
	key := func(c Config) string {
		t.Helper()
		k, err := SnapshotKey(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	want := key(base)
	same, more, ports := base, base, base
	same.Work = t.TempDir()
	more.MemoryMiB = 32
	ports.Forwards = []Forward{{Name: "kafka", Host: "127.0.0.1:9092", Guest: 9092}}
	if got := key(same); got != want {
		t.Error("the work folder changes the key")
	}
	for name, c := range map[string]Config{"memory": more, "ports": ports} {
		if key(c) == want {
			t.Errorf("another %s does not change the key", name)
		}
	}
	image := make([]byte, 64<<10)
	image[40<<10] = 1
	if err := os.WriteFile(base.Image, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if key(base) == want {
		t.Error("another image does not change the key")
	}
}
