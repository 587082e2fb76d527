package firstboot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
)

func inspect(t testing.TB, d *crashDisk) Content {
	t.Helper()
	c, err := Inspect(d, int64(d.sectors)*gpt.Sector)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPowerCutWhileMakingExt4(t *testing.T) {
	d := newCrashDisk(256*uint64(layout.MiB)/gpt.Sector, map[uint64]sector{})
	if got := inspect(t, d); got != Blank {
		t.Fatalf("got %v for an empty partition, want Blank", got)
	}
	if err := MakeExt4(d, int64(d.sectors)*gpt.Sector, "wayside-state"); err != nil {
		t.Fatal(err)
	}
	made := len(d.log)
	if err := Keep(d); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, d); got != Ext4 {
		t.Fatalf("got %v for a made file system, want Ext4", got)
	}
	state := newCrashDisk(d.sectors, map[uint64]sector{})
	for i, e := range d.log {
		if e.data != nil {
			state.now[e.at] = *e.data
		}
		if i%257 != 0 && i < made-16 && i > 16 {
			continue
		}
		if got := inspect(t, state); got == Broken || got == Ext4 && i < made {
			t.Errorf("cut after event %d of %d: got %v, want Blank", i, len(d.log), got)
		}
	}
}

func TestLostSuperblockIsNotMadeAnew(t *testing.T) {
	d := newCrashDisk(256*uint64(layout.MiB)/gpt.Sector, map[uint64]sector{})
	if err := MakeExt4(d, int64(d.sectors)*gpt.Sector, "wayside-data"); err != nil {
		t.Fatal(err)
	}
	for s := range uint64(block0 / gpt.Sector) { // the marker too
		delete(d.now, s)
	}
	if got := inspect(t, d); got != Broken {
		t.Errorf("got %v with the superblock wiped and its backup there, want Broken", got)
	}
}

// A first boot that is cut off before Keep begins anew, and after it nothing
// is ever made over what is there, whatever becomes of the superblock.
func TestEnsureBeginsAnewAndNeverRemakes(t *testing.T) {
	for _, mib := range []int64{minData / layout.MiB, 256, 300} {
		d := newCrashDisk(uint64(mib*layout.MiB)/gpt.Sector, map[uint64]sector{})
		size := mib * layout.MiB
		for range 2 {
			if made, err := Ensure(d, size, "wayside-data"); err != nil || !made {
				t.Fatalf("%d MiB: got %v, %v before it is kept, want one made", mib, made, err)
			}
		}
		if err := Keep(d); err != nil {
			t.Fatal(err)
		}
		if made, err := Ensure(d, size, "wayside-data"); err != nil || made {
			t.Fatalf("%d MiB: got %v, %v, want it kept", mib, made, err)
		}
		if _, err := d.WriteAt([]byte{0xff}, superOffset+8); err != nil { // a torn write, much later
			t.Fatal(err)
		}
		if got := inspect(t, d); got != Ext4 {
			t.Errorf("%d MiB: got %v with a wrong checksum, want Ext4", mib, got)
		}
		if _, err := d.WriteAt(make([]byte, block0), 0); err != nil {
			t.Fatal(err)
		}
		if made, err := Ensure(d, size, "wayside-data"); !errors.Is(err, ErrBroken) || made {
			t.Errorf("%d MiB: got %v, %v with the superblock wiped, want ErrBroken", mib, made, err)
		}
	}
}

func TestMadeExt4PassesFsck(t *testing.T) {
	fsck, err := exec.LookPath("/usr/sbin/e2fsck")
	if err != nil {
		t.Skipf("e2fsck is not installed: %v", err)
	}
	path := filepath.Join(t.TempDir(), "part")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 300 * layout.MiB // larger than it is made: grown later
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := MakeExt4(f, size, "wayside-data"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, "-f", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	count, blockSize, err := blocks(f)
	if err != nil || count*blockSize != uint64(makeSize) {
		t.Errorf("got %d blocks of %d bytes (%v), want %d bytes in all", count, blockSize, err, makeSize)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add(marker, []byte{0x38: 0x53, 0x39: 0xef, 1023: 0})
	f.Fuzz(func(t *testing.T, boot, super []byte) {
		d := newCrashDisk(64*uint64(layout.MiB)/gpt.Sector, map[uint64]sector{})
		if _, err := d.WriteAt(boot[:min(len(boot), superOffset)], 0); err != nil {
			t.Fatal(err)
		}
		if _, err := d.WriteAt(super[:min(len(super), superSize)], superOffset); err != nil {
			t.Fatal(err)
		}
		if c, err := Inspect(d, int64(d.sectors)*gpt.Sector); err != nil || c == Broken {
			t.Errorf("got %v, %v for a partition without a second group", c, err)
		}
		_, _, _ = blocks(d)
	})
}
