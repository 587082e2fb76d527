package qemu

import (
	"os"
	"strings"
	"testing"
	"time"
)

// sleeperCode is a guest that looks as one whose timer was stopped; its source
// is testdata/sleeper.asm.
const sleeperCode = "" +
	"\xfa\x2e\x0f\x01\x16\x60\x00\x0f\x20\xc0\x40\x0f\x22\xc0\xbb\x08" +
	"\x00\x8e\xdb\x48\x0f\x22\xc0\x66\xbb\x00\x00\xe0\xfe\x67\x66\xc7" +
	"\x83\xf0\x00\x00\x00\xff\x01\x00\x00\x67\x66\xc7\x83\xe0\x03\x00" +
	"\x00\x03\x00\x00\x00\x67\x66\xc7\x83\x20\x03\x00\x00\xec\x00\x00" +
	"\x00\x67\x66\xc7\x83\x80\x03\x00\x00\xe8\x03\x00\x00\xf4\xeb\xfd" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x92\x8f\x00" +
	"\x0f\x00\x50\x00\x0f\x00"

// TestOverslept finds out a machine that waits for a timer that has run out.
func TestOverslept(t *testing.T) {
	ctx, cfg := testContext(t), guestConfig(t, DiskOverlay)
	cfg.Board.Arch = "amd64"
	if err := os.WriteFile(cfg.Firmware.Code, romImage(sleeperCode), 0o600); err != nil {
		t.Fatal(err)
	}
	vm, err := Start(ctx, cfg, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	for calls := 1; ; calls++ {
		cpu, dead := vm.DeadTimer(ctx)
		if dead && calls > looks && cpu == 0 {
			return
		}
		if dead || ctx.Err() != nil {
			t.Fatalf("got processor %d, %v after %d calls", cpu, dead, calls)
		}
		time.Sleep(50 * time.Millisecond)
	}
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
