package update

import (
	"bytes"
	"flag"
	"path"
	"path/filepath"
	"testing"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

var pi4 = flag.Bool("pi4", false, "start the Raspberry Pi's image in QEMU's model of a 4 B too")

const pi = "raspberry-pi"

// TestRaspberryPi runs the image of the board in QEMU's model of a 3B, from the
// firmware's part on: a version that panics before init is tried once and given
// up, and the one before boots, for the first time; then a good one is tried and
// stays. What an update prepares is put on the disk from outside: there is no
// fw_cfg to ask for it.
func TestRaspberryPi(t *testing.T) {
	harness.NeedVM(t)
	one, two := buildFor(t, pi, "0.1.0", 10), buildFor(t, pi, "0.2.0", 20)
	m := newPi(t, one)
	m.try(two.alter(t, layout.CmdEpoch+"=1", "rdinit=/none "), 1)
	harness.Tool(t, "truncate", "--size=4G", m.disk) // the sizes of cards are powers of two
	m.start(nil)
	for _, line := range []string{"wayside: trial of b, 0 left", "Kernel panic", "wayside: starting a", "wayside: slot root-a", "wayside: first boot"} {
		m.Expect(harness.BootTime, line)
	}
	m.runs("0.1.0")
	m.cut()
	if got, want := m.record(), (layout.BootRecord{Sequence: 3, Good: 0, Trial: 1, Done: 1}); got != want {
		t.Errorf("after a failed trial: got %+v, want %+v", got, want)
	}

	two.stage(t, m.disk, layout.RootB)
	m.try(two, layout.BootTries)
	m.start(nil)
	m.Expect(harness.BootTime, "wayside: trial of b, 2 left")
	m.Expect(harness.BootTime, `update: version 0\.2\.0 is on trial`)
	m.Expect(harness.BootTime, `update: version 0\.2\.0 committed`)
	m.runs("0.2.0")
	m.cut()
	if got := m.record(); got.Good != 1 || got.Trial != layout.NoTrial {
		t.Errorf("after the commit: got %+v, want image 1 to be good", got)
	}
	m.check()
	if !harness.Long() {
		return
	}
	t.Run("a committed boot writes nothing", func(t *testing.T) {
		before := m.bootPartition()
		m.start(nil)
		m.runs("0.2.0")
		m.cut()
		if !bytes.Equal(before, m.bootPartition()) {
			t.Error("the boot partition was written")
		}
	})
}

// newPi is a Pi with an image that was never started.
func newPi(t *testing.T, b *built) *machine {
	m := &machine{t: t, disk: filepath.Join(t.TempDir(), "disk.raw"), img: b.Image}
	harness.Tool(t, "cp", "--sparse=always", b.Path, m.disk)
	harness.PutOnBootPartition(t, m.disk, layout.ESPSite, []byte(soon))
	return m
}

// try has U-Boot try a version as image B.
func (m *machine) try(b *built, left uint32) {
	m.t.Helper()
	harness.PutOnBootPartition(m.t, m.disk, path.Join(layout.ESPUKIDir, layout.ESPSlots[1]), b.uki)
	r := m.record()
	r.Sequence, r.Trial, r.Left, r.Done = r.Sequence+1, 1, left, 0
	esp := harness.OpenPartition(m.t, m.disk, layout.ESP)
	if _, err := esp.WriteAt(r.Encode(), layout.BootRecordSectors[r.Sequence%2]*layout.BootRecordSize); err != nil {
		m.t.Fatal(err)
	}
}

// record is the boot record of a disk at rest.
func (m *machine) record() layout.BootRecord {
	m.t.Helper()
	esp := harness.OpenPartition(m.t, m.disk, layout.ESP)
	v, err := disk.OpenFAT(esp, esp.Info.Size)
	if err != nil {
		m.t.Fatal(err)
	}
	var copies [2][]byte
	for i, at := range layout.BootRecordSectors {
		if copies[i], err = v.Reserved(at); err != nil {
			m.t.Fatal(err)
		}
	}
	r, _, err := layout.NewestBootRecord(copies)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// cut takes the power: QEMU's machine cannot be switched off from inside.
func (m *machine) cut() {
	m.t.Helper()
	if err := m.PowerCut(); err != nil {
		m.t.Fatal(err)
	}
}

// TestRaspberryPi4 starts the same image in QEMU's model of a 4 B, which has
// another SoC, another SD controller and Debian's tree of a 4 B in it.
func TestRaspberryPi4(t *testing.T) {
	harness.NeedVM(t)
	if !*pi4 && !harness.Long() {
		t.Skip("takes some minutes: run make test-pi4, or make test-all")
	}
	m := newPi(t, buildFor(t, pi, "0.1.0", 10))
	harness.Tool(t, "truncate", "--size=4G", m.disk)
	m.start(nil, func(c *qemu.Config) {
		q := *c.Board.QEMU
		q.Machine, c.MemoryMiB = "raspi4b", 2048 // the machine takes no other
		c.Board.QEMU = &q
	})
	for _, line := range []string{"wayside: starting a", "wayside: slot root-a", "wayside: root verified", "wayside: first boot", "service broker: running"} {
		m.Expect(harness.BootTime, line)
	}
	m.runs("0.1.0")
	m.cut()
}
