package update

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/trial"
	"github.com/waysideos/wayside/init/verity"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

const slotSize = manifest.StagedArea + int64(1)<<20

// box is a modelled machine: three partitions and the state's file system. All
// of its code but loader and services is the real one.
type box struct {
	uboot bool // U-Boot starts it, not systemd-boot
	esp   *disktest.Disk
	slot  [2]*disktest.Disk
	state *vfs.Crashable
	meter *disktest.Meter // nil: nothing is cut
	all   map[string]*release
	boots int
	story []string

	keeper   *trial.Keeper
	runs     *release
	in       int // slot that runs
	asked    bool
	level    int // newest format that any service has written
	rebooted map[string]bool
}

// shipped is a box that left the factory with r. crowded has a boot partition
// whose folder is full of other things.
func shipped(t testing.TB, r *release, uboot, crowded bool, all ...*release) *box {
	t.Helper()
	b := &box{uboot: uboot, esp: disktest.New(34 << 20), state: vfs.NewCrashable(1), all: map[string]*release{}, rebooted: map[string]bool{}}
	volume := disk.FATVolume{Size: b.esp.Size, Label: "WAYSIDE"}
	files := []disk.FATFile{
		{Path: layout.ESPLoader + "/BOOTX64.EFI", Data: []byte("loader")},
		{Path: layout.ESPUKIDir + "/" + layout.UKIName(r.version), Data: r.uki},
	}
	if uboot {
		files[1].Path = layout.ESPUKIDir + "/" + layout.ESPSlots[0]
		record := layout.BootRecord{Sequence: 1, Trial: layout.NoTrial}.Encode()
		volume.Reserved = map[int64][]byte{layout.BootRecordSectors[0]: record, layout.BootRecordSectors[1]: record}
	}
	if crowded {
		// Names before and behind ours, so that its slots straddle sectors.
		for i := range 9 {
			files = append(files, disk.FATFile{Path: fmt.Sprintf("%s/a%d-%s.txt", layout.ESPUKIDir, i, strings.Repeat("x", 9*i)), Data: []byte("note")})
		}
		files = append(files, disk.FATFile{Path: layout.ESPUKIDir + "/zzz.txt", Data: []byte("note")})
	}
	if err := disk.WriteFAT(b.esp, volume, files); err != nil {
		t.Fatal(err)
	}
	for i := range b.slot {
		b.slot[i] = disktest.New(slotSize)
	}
	if err := r.stage(b.slot[0], slotSize); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(all, r) {
		b.all[r.hash()] = r
	}
	for _, d := range b.disks() {
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// another is a box that is equal in all but what will happen to it.
func (b *box) another() *box { return b.after(rand.New(rand.NewPCG(1, 1))) }

// powered connects the meter that cuts the power of all of it.
func (b *box) powered(m *disktest.Meter) *box {
	b.meter = m
	for _, d := range b.disks() {
		d.Meter = m
	}
	b.state.SetHook(func(op vfs.Op, _ string) error {
		if m == nil || op == vfs.OpRead || op == vfs.OpOpen {
			return nil
		}
		if m.Tick() != nil {
			return vfs.ErrCrashed
		}
		return nil
	})
	return b
}

func (b *box) disks() []*disktest.Disk { return []*disktest.Disk{b.esp, b.slot[0], b.slot[1]} }

// lying has all disks forget their flushes.
func (b *box) lying() *box {
	for _, d := range b.disks() {
		d.Lies = true
	}
	return b
}

// after is the box as a power cut now leaves it.
func (b *box) after(rng *rand.Rand) *box {
	return &box{
		uboot: b.uboot, esp: b.esp.After(rng), slot: [2]*disktest.Disk{b.slot[0].After(rng), b.slot[1].After(rng)},
		state: b.state.CrashClone(), all: maps.Clone(b.all), story: slices.Clone(b.story), level: b.level, rebooted: maps.Clone(b.rebooted),
	}
}

func (b *box) say(format string, args ...any) {
	b.story = append(b.story, fmt.Sprintf(format, args...))
}

var (
	errReset = errors.New("the machine starts over")
	errDead  = errors.New("the machine waits for a key")
)

// boot is one start of the machine, as far as it comes. errReset means that it
// starts over by itself.
func (b *box) boot() error {
	b.keeper, b.runs, b.asked = nil, nil, false
	b.boots++
	loader := start
	if b.uboot {
		loader = startUBoot
	}
	i, err := loader(b.esp)
	if err != nil {
		return err
	}
	b.say("boot %d: %s", b.boots, i.file)
	r := b.all[i.words[layout.CmdRootHash]]
	if r == nil {
		return fmt.Errorf("%s is of no release", i.file)
	}
	switch r.does {
	case unstarted:
		// The firmware turns to the disk once more, then waits; somebody
		// switches the machine off and on.
		return errReset
	case panics, hangs:
		return errReset
	}
	if b.in, err = b.find(r); err != nil {
		b.say("%v", err)
		return errReset
	}
	b.runs = r
	if r.does == rebooting && b.rebooted[r.version] {
		r = &release{does: works, version: r.version, counter: r.counter, level: r.level, root: r.root, uki: r.uki, pin: r.pin}
	}
	return b.init(i, r)
}

// find is the slot whose tree the kernel image pins.
func (b *box) find(r *release) (int, error) {
	for i, s := range b.slot {
		if _, err := verity.Check(io.NewSectionReader(s, 0, s.Size), r.pin); err == nil {
			return i, nil
		}
	}
	return 0, fmt.Errorf("root verification failed: no slot holds %s", r.version)
}

func (b *box) loader(file string, r *release) slots.Loader {
	esp := func(use func(gpt.Disk, int64) error) error { return use(b.esp, b.esp.Size) }
	if b.uboot {
		return slots.SlotPartition{ESP: esp, RootHash: r.hash()}
	}
	return slots.Partition{ESP: esp, Running: file, RootHash: r.hash()}
}

func (b *box) init(i item, r *release) (err error) {
	reset := false
	b.keeper, err = trial.Open(trial.Config{
		Store: b.loader(i.file, r), State: b.state, Log: slog.New(slog.DiscardHandler), Level: r.level,
		Running: trial.Release{Version: r.version, Counter: r.counter, RootHash: r.hash()},
		Board:   "test-board", Arch: "amd64", Now: func() time.Time { return time.Unix(1_800_000_000, 0) },
		Other: func() (io.ReaderAt, int64, func() error, error) {
			return b.slot[1-b.in], b.slot[1-b.in].Size, func() error { return nil }, nil
		},
		Reboot: func(string) { reset = true },
	})
	switch {
	case b.off():
		return disktest.ErrCut
	case err != nil:
		b.say("init: %v", err)
		return errReset
	}
	b.level = max(b.level, b.keeper.Level())
	if !b.keeper.OnTrial() {
		return nil
	}
	switch r.does {
	case works:
		err = b.keeper.Commit(manifest.Commit{})
	case stops:
		b.keeper.Failing("step network failed")
		err = errReset
	case rebooting:
		b.rebooted[r.version] = true
		err = errors.Join(b.keeper.GiveBack(), errReset)
	case unhealthy, silent:
		err = b.keeper.Fail(manifest.Fail{Check: "canary", Reason: "the record did not come back"})
	}
	if b.off() {
		return disktest.ErrCut
	}
	if err == nil && reset {
		err = errReset
	}
	return err
}

func (b *box) off() bool { return b.meter != nil && b.meter.Cut() }

// settle starts the box until it runs a version that is to stay. A pending
// trial is a reason to start it once more.
func (b *box) settle() error {
	for range 12 {
		switch err := b.boot(); {
		case b.off():
			return disktest.ErrCut
		case errors.Is(err, errReset):
			continue
		case err != nil:
			return err
		}
		if b.keeper.Slots().Pending == nil {
			return nil
		}
	}
	return errors.New("it never comes to rest")
}

// update prepares a release in the other slot, activates it and starts over.
func (b *box) update(r *release, permit bool) error {
	if err := b.settle(); err != nil {
		return err
	}
	if !b.keeper.Writable() {
		return errors.New("the other slot may not be written")
	}
	if err := r.stage(b.slot[1-b.in], slotSize); err != nil {
		return err
	}
	a := r.activate()
	a.Downgrade = permit
	if err := b.keeper.Activate(a); err != nil {
		return err
	}
	b.say("activated %s", r.version)
	return b.settle()
}
