package update

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

var (
	liveCuts = flag.Int("live-cuts", 1, "power cuts of a real update")
	cycles   = flag.Int("cycles", 25, "rapid power cycles of a committed system")
)

// TestLivePowerCuts is a sample of what the model tries thousands of times, on
// real firmware, loader and kernel: the power of a disk that loses and tears
// what was not flushed is cut between a random write and its flush, while a box
// updates. It must end on the old version or the new one.
func TestLivePowerCuts(t *testing.T) {
	harness.NeedVM(t)
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 2))
	one, two := build(t, "0.1.0", 10), build(t, "0.2.0", 20)
	m := first(t, one)
	harness.PutOnBootPartition(t, m.disk, layout.ESPSite, []byte(soon))
	two.stage(t, m.disk, layout.RootB)
	m.start(items(two), func(c *qemu.Config) { c.Disk, c.FlushDelay = qemu.DiskDropping, 5*time.Millisecond })
	for range *liveCuts {
		m.Expect(harness.BootTime, "wayside: ready")
		n := 1 + rng.IntN(300)
		select {
		case <-m.NextWrite(n):
		case <-time.After(20 * time.Second): // it has nothing to write any more
		}
		stats, err := m.PowerCutDropping(rng.Uint64())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("cut %d writes after it was ready: %d sectors kept, %d dropped", n, stats.Kept, stats.Dropped)
		if err := m.VM.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m.Expect(3*harness.BootTime, `wayside: update: version 0\.2\.0 (committed|failed its trial)|wayside: update: .*failed its trial on`)
	m.WaitReady()
	s := m.Look()
	t.Logf("the box runs %s", s.Box.Version)
	m.PowerOff()
	m.check()
}

// TestRapidPowerCycles switches a committed system off and on while it boots:
// nothing is counted, and nothing on the boot partition changes.
func TestRapidPowerCycles(t *testing.T) {
	harness.NeedVM(t)
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 3))
	one := build(t, "0.1.0", 10)
	m := first(t, one)
	before := m.bootPartition()
	m.start(nil)
	for range *cycles {
		// Most while firmware and loader work: nothing else may count.
		limit := 4 * time.Second
		if rng.IntN(4) == 0 {
			limit = 9 * time.Second
		}
		select {
		case <-time.After(500*time.Millisecond + time.Duration(rng.Int64N(int64(limit)))):
		case <-m.Exited():
		}
		if err := m.PowerCut(); err != nil {
			t.Fatal(err)
		}
		if err := m.VM.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m.runs("0.1.0")
	m.PowerOff()
	if !slices.Equal(before, m.bootPartition()) {
		t.Errorf("the boot partition was written; it holds %v", m.entries())
	}
	if got := fmt.Sprint(m.entries()); got != "[wayside-0.1.0.efi]" {
		t.Errorf("got kernel images %s", got)
	}
	m.check()
}

// bootPartition is all of it, byte for byte.
func (m *machine) bootPartition() []byte {
	m.t.Helper()
	p := harness.OpenPartition(m.t, m.disk, layout.ESP)
	b := make([]byte, p.Info.Size)
	if _, err := p.ReadAt(b, 0); err != nil {
		m.t.Fatal(err)
	}
	return b
}
