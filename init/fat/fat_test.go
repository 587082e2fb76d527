package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/fat"
)

// volume is an empty boot partition with one kernel image.
func volume(t testing.TB) *disktest.Disk {
	t.Helper()
	return load(t)
}

const dir = "EFI/Linux"

var at = time.Unix(1_800_000_000, 0)

func open(t testing.TB, d *disktest.Disk) *fat.Volume {
	t.Helper()
	v, err := fat.Open(d, d.Size)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// names lists the folder with the first bytes of each file.
func names(t testing.TB, d *disktest.Disk) map[string]string {
	t.Helper()
	v := open(t, d)
	files, err := v.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		r, err := v.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = fmt.Sprintf("%.1s%d", data, len(bytes.TrimRight(data, string(data[:1]))))
		if len(data) > 0 && int64(len(data)) != f.Size {
			t.Errorf("%s: %d bytes, want %d", f.Name, len(data), f.Size)
		}
	}
	return got
}

// fill is a file of one letter; names shows it as "a0".
func fill(letter string, n int) (io.Reader, int64) {
	return strings.NewReader(strings.Repeat(letter, n)), int64(n)
}

func create(t testing.TB, v *fat.Volume, name, letter string, n int) {
	t.Helper()
	r, size := fill(letter, n)
	if err := v.Create(dir, name, r, size, at); err != nil {
		t.Fatal(err)
	}
}

func fsck(t testing.TB, d *disktest.Disk) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fat")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(d.Size), d.CopyTo(f)); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"/sbin/fsck.vfat", "/usr/sbin/fsck.vfat"} {
		if _, err := os.Stat(tool); err != nil {
			continue
		}
		if out, err := exec.Command(tool, "-n", "-v", file).CombinedOutput(); err != nil || strings.Contains(string(out), "differ") {
			t.Errorf("fsck.vfat: %v\n%s", err, out)
		}
		return
	}
	t.Fatal("fsck.vfat is not installed: run `go run ./cmd/wayside host setup --for test`")
}

func TestLifeOfAFile(t *testing.T) {
	d := volume(t)
	v := open(t, d)
	before := v.Free()
	create(t, v, "wayside-2+3.efi", "b", 5000)
	create(t, v, "wayside-3.0.0~rc1-a-long-version-that-needs-many-slots+3.efi", "c", 70_000)
	for _, r := range [][2]string{
		{"wayside-2+3.efi", "wayside-2+2-1.efi"},                                          // longer by two
		{"wayside-2+2-1.efi", "wayside-2.efi"},                                            // shorter
		{"wayside-2.efi", "wayside-2+0-a-much-longer-name-that-needs-more-slots.efi"},     // more slots
		{"wayside-3.0.0~rc1-a-long-version-that-needs-many-slots+3.efi", "wayside-3.efi"}, // fewer
	} {
		if err := v.Rename(dir, r[0], r[1]); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"wayside-1.efi": "a0", "wayside-2+0-a-much-longer-name-that-needs-more-slots.efi": "b0", "wayside-3.efi": "c0"}
	if diff := cmp.Diff(want, names(t, d)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	fsck(t, d)
	for name := range want {
		if name != "wayside-1.efi" {
			if err := v.Remove(dir, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := v.Free(); got < before-1024 { // the folder has grown
		t.Errorf("%d bytes are free after all is removed, want %d", got, before)
	}
	fsck(t, d)
}

// What was wiped is nowhere on the disk, and nothing else is touched.
func TestWipe(t *testing.T) {
	d := volume(t)
	v := open(t, d)
	free := v.Free()
	create(t, v, "wayside-2.efi", "s", 5000)
	for range 2 { // the second time there is nothing to wipe
		if err := v.Wipe(dir, "wayside-2.efi"); err != nil {
			t.Fatal(err)
		}
	}
	all, err := io.ReadAll(io.NewSectionReader(d, 0, d.Size))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(all, []byte("ssss")) || v.Free() != free {
		t.Errorf("the disk still holds the file, or %d bytes are free and were %d", v.Free(), free)
	}
	if diff := cmp.Diff(map[string]string{"wayside-1.efi": "a0"}, names(t, d)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	fsck(t, d)
}

func TestRefusals(t *testing.T) {
	v := open(t, volume(t))
	r, size := fill("x", 100)
	for name, err := range map[string]error{
		"taken":     v.Create(dir, "WAYSIDE-1.EFI", r, size, at),
		"no folder": v.Create("EFI/none", "x.efi", r, size, at),
		"bad name":  v.Create(dir, "a/b", r, size, at),
		"too large": v.Create(dir, "x.efi", r, v.Free()+1, at),
		"too short": v.Create(dir, "x.efi", r, 200, at),
		"not there": v.Rename(dir, "none", "x.efi"),
		"onto one":  v.Rename(dir, "wayside-1.efi", "Wayside-1.efi"),
	} {
		if err == nil {
			t.Errorf("%s: done", name)
		}
	}
	if err := v.Create(dir, "x.efi", r, v.Free()+1, at); !errors.Is(err, fat.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if err := v.Create(dir, "wayside-1.efi", r, size, at); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
}

// Names come and go until the folder has grown, in any pattern of holes.
func TestManyNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	d := volume(t)
	v := open(t, d)
	want := map[string]string{"wayside-1.efi": "a0"}
	for i := range 400 {
		name := fmt.Sprintf("n%d-%s.efi", i, strings.Repeat("y", rng.IntN(100)))
		create(t, v, name, "b", 1+rng.IntN(3000))
		want[name] = "b0"
		for have := range want {
			if rng.IntN(len(want)) == 0 && len(want) > 20 {
				delete(want, have)
				if err := v.Remove(dir, have); err != nil {
					t.Fatal(err)
				}
			} else if rng.IntN(8) == 0 {
				to := fmt.Sprintf("m%d-%s.efi", i, strings.Repeat("z", rng.IntN(100)))
				if err := v.Rename(dir, have, to); err != nil {
					t.Fatal(err)
				}
				want[to] = want[have]
				delete(want, have)
				break
			}
		}
	}
	if diff := cmp.Diff(want, names(t, d)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	fsck(t, d)
}

// Whenever the power goes, each file is there under its old name or its new
// one, whole, and the others are untouched.
func TestPowerCuts(t *testing.T) {
	steps := []struct {
		name string
		do   func(*fat.Volume) error
		// old and new name of the one file that is worked on; "" is none.
		old, new string
		twins    bool // both may be there
	}{
		{"create", func(v *fat.Volume) error {
			r, size := fill("n", 9000)
			return v.Create(dir, "wayside-9+3.efi", r, size, at)
		}, "", "wayside-9+3.efi", false},
		{"commit", func(v *fat.Volume) error { return v.Rename(dir, "wayside-2+2-1.efi", "wayside-2.efi") }, "wayside-2+2-1.efi", "wayside-2.efi", false},
		{"mark bad", func(v *fat.Volume) error { return v.Rename(dir, "wayside-2+2-1.efi", "wayside-2+0-1.efi") }, "wayside-2+2-1.efi", "wayside-2+0-1.efi", false},
		{"mark bad what was good", func(v *fat.Volume) error { return v.Rename(dir, "wayside-1.efi", "wayside-1+0.efi") }, "wayside-1.efi", "wayside-1+0.efi", true},
		{"remove", func(v *fat.Volume) error { return v.Remove(dir, "wayside-2+2-1.efi") }, "wayside-2+2-1.efi", "", false},
	}
	for _, lies := range []bool{false, true} {
		broken := 0
		for _, step := range steps {
			base := volume(t)
			create(t, open(t, base), "wayside-2+2-1.efi", "b", 5000)
			for cut := 1; ; cut++ {
				whole := false
				for seed := range uint64(8) {
					d := base.Clone()
					d.Meter, d.Lies = &disktest.Meter{CutAt: cut}, lies
					v, err := fat.Open(d, d.Size)
					if err != nil {
						t.Fatal(err)
					}
					err = step.do(v)
					whole = !d.Meter.Cut()
					if whole != (err == nil) {
						t.Fatalf("%s, cut %d: got %v", step.name, cut, err)
					}
					after := d.After(rand.New(rand.NewPCG(seed, uint64(cut))))
					if why := judge(t, after, step.old, step.new, step.twins); why != "" {
						broken++
						if !lies {
							t.Errorf("%s, cut at event %d, seed %d: %s", step.name, cut, seed, why)
						}
					}
				}
				if whole {
					break
				}
			}
		}
		if lies && broken == 0 {
			t.Error("nothing breaks on a disk that never flushes: the test would not notice a missing flush")
		}
	}
}

func judge(t *testing.T, d *disktest.Disk, old, new string, twins bool) string {
	before := map[string]string{"wayside-1.efi": "a0", "wayside-2+2-1.efi": "b0"}
	got, err := tryNames(d)
	if err != nil {
		return err.Error()
	}
	_, hasOld := got[old]
	_, hasNew := got[new]
	switch {
	case old != "" && new != "" && !hasOld && !hasNew:
		return fmt.Sprintf("the file is gone: %v", got)
	case old != "" && hasOld && hasNew && !twins:
		return fmt.Sprintf("both names are there: %v", got)
	}
	for name, content := range got {
		want := before[name]
		if name == new {
			if want = before[old]; old == "" {
				want = "n0"
			}
		}
		if content != want {
			return fmt.Sprintf("%s holds %s, want %s", name, content, want)
		}
	}
	for name := range before {
		if _, there := got[name]; !there && name != old {
			return fmt.Sprintf("%s is gone: %v", name, got)
		}
	}
	// What is left of it can be told, and tidied up.
	v := open(t, d)
	groups, err := v.Twins(dir)
	if err != nil {
		return err.Error()
	}
	for _, g := range groups {
		if err := v.Forget(dir, g[0].Name); err != nil {
			return err.Error()
		}
	}
	if _, err := v.Reclaim(); err != nil {
		return err.Error()
	}
	return ""
}

func tryNames(d *disktest.Disk) (got map[string]string, err error) {
	v, err := fat.Open(d, d.Size)
	if err != nil {
		return nil, err
	}
	files, err := v.List(dir)
	if err != nil {
		return nil, err
	}
	got = map[string]string{}
	for _, f := range files {
		r, err := v.Read(f)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil || len(data) == 0 {
			return nil, fmt.Errorf("%s: %d bytes, %v", f.Name, len(data), err)
		}
		got[f.Name] = fmt.Sprintf("%.1s%d", data, len(bytes.TrimRight(data, string(data[:1]))))
	}
	return got, nil
}

// Two names of one content: the second is forgotten without harm to the first.
func TestTwins(t *testing.T) {
	base := volume(t)
	create(t, open(t, base), "wayside-2+2-1.efi", "b", 5000)
	for cut := 1; cut < 20; cut++ {
		d := base.Clone()
		d.Meter = &disktest.Meter{CutAt: cut}
		v := open(t, d)
		_ = v.Rename(dir, "wayside-1.efi", "wayside-1+0-a-name-too-long-for-the-sector-that-the-old-one-is-in-a-name-too-long-for-the-sector-that-the-old-one-is-in.efi")
		after := d.After(rand.New(rand.NewPCG(1, 1)))
		v = open(t, after)
		groups, err := v.Twins(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(groups) == 0 {
			continue
		}
		if len(groups) != 1 || len(groups[0]) != 2 {
			t.Fatalf("got twins %+v", groups)
		}
		if _, err := v.Reclaim(); !errors.Is(err, fat.ErrDamaged) {
			t.Errorf("reclaim with twins: got %v, want ErrDamaged", err)
		}
		if err := v.Forget(dir, groups[0][1].Name); err != nil {
			t.Fatal(err)
		}
		if n, err := v.Reclaim(); err != nil || n != 0 {
			t.Errorf("reclaim: got %d, %v", n, err)
		}
		if got := names(t, after); len(got) != 2 || got[groups[0][0].Name] != "a0" {
			t.Errorf("got %v", got)
		}
		fsck(t, after)
		return
	}
	t.Error("no power cut left twins: the test shows nothing")
}

func FuzzOpen(f *testing.F) {
	d := load(f)
	head := make([]byte, 64<<10)
	d.ReadAt(head, 0)
	f.Add(head[:512], head[16<<10:17<<10], head)
	f.Fuzz(func(t *testing.T, boot, table, folders []byte) {
		d := disktest.New(1 << 20)
		v, err := fat.Open(d, d.Size)
		if err == nil {
			t.Fatal("opened nothing")
		}
		d.WriteAt(folders[:min(len(folders), 64<<10)], 32<<10)
		d.WriteAt(table[:min(len(table), 16<<10)], 16<<10)
		d.WriteAt(boot[:min(len(boot), 512)], 0)
		if v, err = fat.Open(d, d.Size); err != nil {
			return
		}
		files, err := v.List("/")
		if err != nil {
			return
		}
		for _, f := range files {
			if r, err := v.Read(f); err == nil {
				io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			}
		}
		v.Twins("/")
		v.Reclaim()
	})
}
