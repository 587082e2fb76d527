package update

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/slots"
)

// TestBootLoaderCuts cuts the power at every write and flush while a boot loader
// is replaced, twice in a row at some: both programs are there at every moment,
// each old or new and whole, the guard never newer than the boot manager, and
// the next boot ends it.
func TestBootLoaderCuts(t *testing.T) {
	t.Logf("seed %d", *seed)
	program := func(what string, n int) []byte {
		return append([]byte("MZ"), bytes.Repeat([]byte(what), n)...)
	}
	manager, guard := layout.BootManager("amd64"), layout.ESPLoader+"/BOOTX64.EFI"
	old := map[string][]byte{manager: program("old manager", 9000), guard: program("old guard", 60)}
	next := []slots.LoaderFile{{Path: manager, Content: program("a longer new manager", 7000)}, {Path: guard, Content: program("new guard", 50)}}
	base := disktest.New(34 << 20)
	files := []disk.FATFile{
		{Path: guard, Data: old[guard]}, {Path: manager, Data: old[manager]}, {Path: layout.ESPUKIDir + "/wayside-1.efi", Data: program("kernel", 2000)},
	}
	if err := disk.WriteFAT(base, disk.FATVolume{Size: base.Size, Label: "WAYSIDE"}, files); err != nil {
		t.Fatal(err)
	}
	if err := base.Sync(); err != nil {
		t.Fatal(err)
	}
	install := func(d *disktest.Disk) error {
		p := slots.Partition{ESP: func(use func(gpt.Disk, int64) error) error { return use(d, d.Size) }}
		_, err := p.Install(next, time.Unix(1_800_000_000, 0))
		return err
	}
	judge := func(d *disktest.Disk, done bool) string {
		v, err := disk.OpenFAT(d, d.Size)
		if err != nil {
			return err.Error()
		}
		isNew := map[string]bool{}
		for _, f := range next {
			got, err := v.ReadFile(f.Path)
			isNew[f.Path] = bytes.Equal(got, f.Content)
			switch {
			case err != nil:
				return fmt.Sprintf("%s: %v", f.Path, err)
			case !isNew[f.Path] && (done || !bytes.Equal(got, old[f.Path])):
				return fmt.Sprintf("%s is neither (done %v)", f.Path, done)
			}
		}
		if isNew[guard] && !isNew[manager] {
			return "the guard is newer than what it starts"
		}
		if kernel, err := v.ReadFile(files[2].Path); err != nil || !bytes.Equal(kernel, files[2].Data) {
			return fmt.Sprintf("the kernel image: %v", err)
		}
		return ""
	}
	run := func(lies bool) (cases, broken int) {
		for cut := 1; ; cut++ {
			for n := range 1 + *deep {
				rng := rand.New(rand.NewPCG(*seed, uint64(cut*100+n)))
				d := base.Clone()
				d.Lies, d.Meter = lies, &disktest.Meter{CutAt: cut}
				if install(d); !d.Meter.Cut() {
					return cases, broken
				}
				d = d.After(rng)
				why := judge(d, false)
				if n > 0 && why == "" { // and once more
					d.Meter = &disktest.Meter{CutAt: 1 + rng.IntN(20)}
					install(d)
					d = d.After(rng)
					why = judge(d, false)
				}
				d.Meter = nil
				if err := install(d); why == "" && err != nil {
					why = err.Error()
				} else if why == "" {
					why = judge(d, true)
				}
				cases++
				if why != "" {
					broken++
					if !lies {
						t.Fatalf("cut at event %d (seed %d): %s", cut, *seed, why)
					}
				}
			}
		}
	}
	cases, _ := run(false)
	if _, broken := run(true); broken == 0 {
		t.Error("nothing breaks on disks that never flush")
	}
	t.Logf("%d power cuts", cases)
	d := base.Clone()
	if err := install(d); err != nil {
		t.Fatal(err)
	}
	if changed, err := (slots.Partition{ESP: func(use func(gpt.Disk, int64) error) error { return use(d, d.Size) }}).Install(slices.Clone(next), time.Now()); err != nil || len(changed) != 0 {
		t.Errorf("what is there already was written again: %v, %v", changed, err)
	}
}
