package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sleeperCode is a guest that looks as one whose timer was stopped; its source
// is testdata/sleeper.asm.
const sleeperCode = "" +
	"\xfa\xb0\xff\xe6\x21\xe6\xa1\x31\xc0\x8e\xd8\x8e\xd0\xbc\x00\x70" +
	"\xc7\x06\xb0\x03\x6c\x00\xc7\x06\xb2\x03\x00\xf0\x2e\x0f\x01\x16" +
	"\x80\x00\x0f\x20\xc0\x40\x0f\x22\xc0\xbb\x08\x00\x8e\xdb\x48\x0f" +
	"\x22\xc0\x66\xbb\x00\x00\xe0\xfe\x67\x66\xc7\x83\xf0\x00\x00\x00" +
	"\xff\x01\x00\x00\x67\x66\xc7\x83\xe0\x03\x00\x00\x03\x00\x00\x00" +
	"\x67\x66\xc7\x83\x20\x03\x00\x00\xec\x00\x00\x00\x67\x66\xc7\x83" +
	"\x80\x03\x00\x00\xe8\x03\x00\x00\xfb\xf4\xeb\xfd\xcf\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x92\x8f\x00" +
	"\x0f\x00\x70\x00\x0f\x00"

// startSleeper switches on a machine that runs code, a form of sleeperCode.
func startSleeper(t *testing.T, code string) *VM {
	t.Helper()
	cfg := guestConfig(t, DiskOverlay)
	cfg.Board.Arch = "amd64"
	if err := os.WriteFile(cfg.Firmware.Code, romImage(code), 0o600); err != nil {
		t.Fatal(err)
	}
	vm, err := Start(testContext(t), cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	return vm
}

// asleep waits until the guest's timer has run out, and its processor waits.
func asleep(t *testing.T, vm *VM) {
	t.Helper()
	for ctx := testContext(t); ; time.Sleep(20 * time.Millisecond) {
		var registers string
		err := vm.QMP(ctx, "human-monitor-command", map[string]any{"command-line": "info registers"}, &registers)
		apic, err2 := vm.LocalAPIC(ctx, 0)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(registers, " HLT=1") && strings.Contains(apic, "initial_count = 1000 current_count = 0\r\n") {
			return
		}
	}
}

// TestOverslept finds out a machine that waits for a timer that has run out,
// unless it is paused.
func TestOverslept(t *testing.T) {
	ctx, vm := testContext(t), startSleeper(t, sleeperCode)
	asleep(t, vm)
	begin := time.Now()
	cpu, dead := vm.DeadTimer(ctx)
	if took := time.Since(begin); cpu != 0 || !dead || took < (looks-1)*lookApart {
		t.Errorf("got processor %d, %v after %v", cpu, dead, took)
	}
	if err := vm.QMP(ctx, "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	vm.looked = time.Time{}
	if cpu, dead := vm.DeadTimer(ctx); dead {
		t.Errorf("of a machine that is paused: got processor %d", cpu)
	}
}

// TestHaltedIsNotOverslept knows a machine that has ended with interrupts off,
// although its timer has run out as well.
func TestHaltedIsNotOverslept(t *testing.T) {
	const wait, end = "\xfb\xf4", "\xfa\xf4" // sti, cli; hlt
	if strings.Count(sleeperCode, wait) != 1 {
		t.Fatal("the guest waits somewhere else")
	}
	vm := startSleeper(t, strings.Replace(sleeperCode, wait, end, 1))
	asleep(t, vm)
	if cpu, dead := vm.DeadTimer(testContext(t)); dead {
		t.Errorf("got processor %d", cpu)
	}
}

// TestLookAtHungQEMU gives up on a QEMU that answers nothing.
func TestLookAtHungQEMU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go io.Copy(io.Discard, theirs)
		ctrl := &qmp{enc: json.NewEncoder(ours), waiting: make(map[int]chan qmpReply)}
		v := &VM{cfg: Config{Accel: "tcg", SMP: 1}, console: NewConsole(nil), proc: &process{ctrl: ctrl}}
		v.cfg.Board.Arch = "amd64"
		if cpu, dead := v.DeadTimer(t.Context()); dead {
			t.Errorf("got processor %d", cpu)
		}
		if _, err := v.LocalAPIC(t.Context(), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that it took too long", err)
		}
	})
}

// TestSleepAgain counts looks at a processor whose timer has run out and that
// sleeps on, and begins anew with whatever shows that it lives.
func TestSleepAgain(t *testing.T) {
	const (
		halted = "RIP=ffffffff81e0a1bf RFL=00000242 [---Z---] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
		awake  = "RIP=ffffffff81e0a1bf RFL=00000242 [---Z---] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n"
		out    = "LVTERR\t 0x000000fe active-hi edge                              Fixed  (vec 254)\r\n" +
			"LVTT\t 0x000000ec active-hi edge                 one-shot     Fixed  (vec 236)\r\n" +
			"Timer\t DCR=0x3 (divide by 16) initial_count = 2839 current_count = 0\r\n" +
			"ISR\t 236 \r\nIRR\t 36 \r\n"
	)
	other := func(old, new string) string {
		t.Helper()
		if !strings.Contains(out, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(out, old, new, 1)
	}
	for _, c := range []struct {
		name, registers, apic string
		want                  int // looks counted after two and this one
	}{
		{"as before", halted, out, 3},
		{"it runs", awake, out, 0},
		{"it has ended, with interrupts off", strings.Replace(halted, "242", "046", 1), out, 0},
		{"it has ended before there was a kernel", "EIP=000003ff EFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n", out, 0},
		{"it runs and has another timer", halted, other("current_count = 0", "current_count = 7"), 0},
		{"the timer was set again, and has run out again", halted, other("= 2839", "= 2840"), 1},
		{"another interrupt waits", halted, other("IRR\t 36", "IRR\t 37"), 1},
		{"masked", halted, other("0x000000ec", "0x000100ec"), 0},
		{"periodic", halted, other("0x000000ec", "0x000200ec"), 0},
		{"no timer was ever set", halted, other("= 2839", "= 0"), 0},
		{"another machine", halted, "unknown command", 0},
	} {
		s := sleep{}.again(halted, out).again(halted, out)
		if got := s.again(c.registers, c.apic).times; got != c.want {
			t.Errorf("%s: got %d looks, want %d", c.name, got, c.want)
		}
	}
}
