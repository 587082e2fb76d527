package firstboot

import (
	"encoding/binary"
	"testing"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
)

// madeDisk holds a new file system of 256 MiB, and its superblock.
func madeDisk(t *testing.T) (d *crashDisk, super []byte) {
	t.Helper()
	d = newCrashDisk(uint64(makeSize)/gpt.Sector, map[uint64]sector{})
	if err := MakeExt4(d, makeSize, "wayside-data"); err != nil {
		t.Fatal(err)
	}
	if err := Keep(d); err != nil {
		t.Fatal(err)
	}
	return d, readSuper(t, d)
}

func readSuper(t *testing.T, d *crashDisk) []byte {
	t.Helper()
	super := make([]byte, superSize)
	if _, err := d.ReadAt(super, superOffset); err != nil {
		t.Fatal(err)
	}
	return super
}

func writeSuper(t *testing.T, d *crashDisk, super []byte) {
	t.Helper()
	if _, err := d.WriteAt(super, superOffset); err != nil {
		t.Fatal(err)
	}
}

// mounted is what the kernel makes of a superblock when it mounts.
func mounted(super []byte) []byte {
	after, le := append([]byte(nil), super...), binary.LittleEndian
	le.PutUint32(after[0x2c:], 1_800_000_000) // mount time
	le.PutUint16(after[0x34:], 1)             // mount count
	le.PutUint32(after[0x60:], le.Uint32(after[0x60:])|needsRecovery)
	copy(after[0x200:], "errors=remount-ro")
	le.PutUint32(after[superSize-4:], superblockSum(after))
	return after
}

func TestTornSuperblockIsMended(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, second bool // which sectors are the new ones
	}{
		{"first sector new", true, false},
		{"second sector new", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, before := madeDisk(t)
			torn, after := append([]byte(nil), before...), mounted(before)
			if test.first {
				copy(torn[:gpt.Sector], after)
			}
			if test.second {
				copy(torn[gpt.Sector:], after[gpt.Sector:])
			}
			writeSuper(t, d, torn)
			if made, err := Ensure(d, makeSize, "wayside-data"); made || err != nil {
				t.Fatalf("got %v, %v for a torn superblock, want it kept", made, err)
			}
			got := readSuper(t, d)
			if !superblockWhole(got) {
				t.Error("the superblock is still not whole")
			}
			if binary.LittleEndian.Uint32(got[0x60:])&needsRecovery == 0 {
				t.Error("the journal is not marked for recovery: its content would be thrown away")
			}
		})
	}
}

// A superblock with other damage is not guessed at, and stays as it is.
func TestDamagedSuperblockIsLeft(t *testing.T) {
	damage := func(at int64) func(*testing.T, *crashDisk) {
		return func(t *testing.T, d *crashDisk) {
			if _, err := d.WriteAt([]byte{0xa5}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, hurt := range map[string]func(*testing.T, *crashDisk){
		"blocks per group": damage(superOffset + 0x21),
		"inode size":       damage(superOffset + 0x58),
		"UUID":             damage(superOffset + 0x70),
		"backup too": func(t *testing.T, d *crashDisk) {
			damage(superOffset+0x2c)(t, d)
			damage(backupSuper+0x2c)(t, d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := madeDisk(t)
			hurt(t, d)
			before := readSuper(t, d)
			if made, err := Ensure(d, int64(d.sectors)*gpt.Sector, "wayside-data"); made || err == nil {
				t.Errorf("got %v, %v, want an error", made, err)
			}
			if got := readSuper(t, d); string(got) != string(before) {
				t.Error("the superblock was changed")
			}
		})
	}
	small := newCrashDisk(64*uint64(layout.MiB)/gpt.Sector, map[uint64]sector{})
	if err := MakeExt4(small, 64*layout.MiB, "wayside-data"); err != nil {
		t.Fatal(err)
	}
	if err := Keep(small); err != nil {
		t.Fatal(err)
	}
	damage(superOffset+0x2c)(t, small)
	if _, err := Ensure(small, 64*layout.MiB, "wayside-data"); err == nil {
		t.Error("got no error for a damaged superblock without a backup")
	}
}
