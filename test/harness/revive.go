package harness

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/waysideos/wayside/qemu"
)

// machine is what revive needs of a box.
type machine interface {
	DeadTimer(context.Context) (cpu int, dead bool)
	LocalAPIC(ctx context.Context, cpu int) (string, error)
	PowerCut() error
	PowerOn(context.Context) error
}

// revived says that this test process has met the emulator's fault already.
var revived atomic.Bool

// revive switches a machine off and on whose emulator has stopped a
// processor's timer, once in a test process: the fault is not the box's, and
// rare. It says so in the test's log, and whether it did. A second time is no
// chance, and fails the test; so does a machine whose writes are recorded, for
// its record would begin anew.
func revive(t testing.TB, m machine, once *atomic.Bool, recorded bool) bool {
	t.Helper()
	cpu, dead := m.DeadTimer(t.Context())
	if !dead {
		return false
	}
	apic, err := m.LocalAPIC(t.Context(), cpu)
	t.Logf("processor %d, whose timer has stopped, %v:\n%s", cpu, err, apic)
	switch {
	case recorded:
		t.Fatalf(qemu.EmulatorFault+": QEMU has stopped the timer of processor %d, and the machine's writes are being recorded: run the test again", cpu)
	case !once.CompareAndSwap(false, true):
		t.Fatalf(qemu.EmulatorFault+", for the second time in this process: the timer of processor %d has stopped. That is no chance: look for what stops it", cpu)
	}
	t.Logf("NOTE: "+qemu.EmulatorFault+", 1 of at most 1: QEMU has stopped the timer of processor %d (see \"What has bitten\" in docs/architecture.md); the machine is switched off and on", cpu)
	if err := m.PowerCut(); err != nil {
		t.Fatalf("switch off the machine whose timer has stopped: %v", err)
	}
	if err := m.PowerOn(t.Context()); err != nil {
		t.Fatalf("switch on the machine whose timer had stopped: %v", err)
	}
	return true
}

func (b *Box) revive() bool {
	b.t.Helper()
	return revive(b.t, b.VM, &revived, b.Config().WriteLog != "")
}
