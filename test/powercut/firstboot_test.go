package powercut

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

// TestFirstBootIsInterrupted cuts the power of a dropping disk in the middle
// of the writes of the first boot, earlier and later ones; the next boot must
// go on from there and the last one finish the job.
func TestFirstBootIsInterrupted(t *testing.T) {
	harness.NeedVM(t)
	t.Logf("seed %d", *seed)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	box := harness.Boot(t, harness.Build(t, ""), func(c *qemu.Config) {
		c.Disk, c.DiskFile, c.FlushDelay = qemu.DiskDropping, disk, 5*time.Millisecond
	})
	for _, n := range []int{1, 4, 16, 40} {
		box.Expect(harness.BootTime, "wayside: root verified")
		select {
		case <-box.NextWrite(n):
		case <-time.After(harness.BootTime):
			t.Fatalf("the first boot never came to its write %d", n)
		}
		stats, err := box.PowerCutDropping(*seed + uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("cut at write %d: %d sectors kept, %d dropped", n, stats.Kept, stats.Dropped)
		if err := box.VM.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	box.WaitReady()
	box.PowerOff()
	harness.Tool(t, "sgdisk", "-v", disk)
	for _, role := range []layout.Role{layout.State, layout.Data} {
		harness.Tool(t, "e2fsck", "-fn", harness.Extract(t, disk, role))
	}
}
