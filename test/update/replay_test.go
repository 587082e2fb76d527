package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/verity"
	"github.com/waysideos/wayside/qemu/writelog"
	"github.com/waysideos/wayside/services/vfs"
	"github.com/waysideos/wayside/test/harness"
)

// recording is every write of a real update: what QEMU was asked to write, over
// the disk as it was when the box was switched on.
type recording struct {
	t        *testing.T
	disk     string // a copy, from before
	log      string
	base     *os.File
	writes   *writelog.Log
	from, to int // entries: before prepare, and when the version was kept
	old, new *release
	work     string // folder
	parts    map[layout.Role]disk.Partition
	records  map[string][]byte // init's record by what the state partition holds
}

// record copies the disk of a box that is off; its writes go to r.log.
func record(t *testing.T, m *machine) *recording {
	t.Helper()
	dir := t.TempDir()
	r := &recording{t: t, disk: filepath.Join(dir, "before.raw"), log: filepath.Join(dir, "writes.log"), work: dir,
		parts: map[layout.Role]disk.Partition{}, records: map[string][]byte{}}
	harness.Tool(t, "cp", "--sparse=always", m.disk, r.disk)
	for _, role := range []layout.Role{layout.ESP, layout.State, layout.RootA, layout.RootB} {
		r.parts[role] = harness.OpenPartition(t, r.disk, role).Info
	}
	return r
}

// count is how many entries there are by now.
func (r *recording) count() int {
	r.t.Helper()
	f, err := os.Open(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	n, err := writelog.Count(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// open reads the log of a box that is off.
func (r *recording) open(old, new *built) {
	r.t.Helper()
	log, err := os.Open(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { log.Close() })
	if r.base, err = os.Open(r.disk); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.base.Close() })
	if r.writes, err = writelog.Read(log); err != nil {
		r.t.Fatal(err)
	}
	r.old, r.new = old.release(r.t), new.release(r.t)
}

// release is a built one as the model knows it.
func (b *built) release(t *testing.T) *release {
	t.Helper()
	im, err := slots.ReadImage(bytes.NewReader(b.uki))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := verity.ParsePin(im.RootHash, im.DataBlocks)
	if err != nil {
		t.Fatal(err)
	}
	return &release{version: b.activate.Version, counter: b.activate.Counter, level: 1, does: works, uki: b.uki, pin: pin}
}

// points are the moments at which the power is cut: after every write that init
// or the loader may go by, but of the many of the content at most some.
func (r *recording) points(rng *rand.Rand, most int) []int {
	var out []int
	for i := r.from; i < r.to; i++ {
		for _, p := range r.parts {
			if r.writes.Entries[i].Touches(p.Start, p.Size) {
				out = append(out, i+1)
				break
			}
		}
	}
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	out = out[:min(most, len(out))]
	slices.Sort(out)
	return out
}

// box is the modelled machine with the disk of a power cut.
func (r *recording) box(c *writelog.Cut) (*box, error) {
	b := &box{state: vfs.NewCrashable(1), all: map[string]*release{r.old.hash(): r.old, r.new.hash(): r.new}, rebooted: map[string]bool{}}
	part := func(role layout.Role) *disktest.Disk {
		p := r.parts[role]
		d := disktest.New(p.Size)
		d.Base = io.NewSectionReader(c, p.Start, p.Size)
		return d
	}
	b.esp, b.slot[0], b.slot[1] = part(layout.ESP), part(layout.RootA), part(layout.RootB)
	text, err := r.record(c)
	if err != nil || text == nil {
		return b, err
	}
	if err := b.state.MkdirAll("update"); err != nil {
		return nil, err
	}
	return b, vfs.WriteWhole(b.state, "update/state", text)
}

// record is the file that init keeps, as the kernel's driver finds it: the
// journal of the state partition is replayed first.
func (r *recording) record(c *writelog.Cut) ([]byte, error) {
	p := r.parts[layout.State]
	key := c.Same(p.Start, p.Size)
	if text, known := r.records[key]; known {
		return text, nil
	}
	file := filepath.Join(r.work, "state")
	work, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file)
	defer work.Close()
	if err := r.copyState(work, c, p); err != nil {
		return nil, err
	}
	tool := func(args ...string) ([]byte, error) {
		cmd := exec.Command("sh", "-c", `PATH=$PATH:/sbin:/usr/sbin; exec "$@"`, "sh")
		cmd.Args = append(cmd.Args, args...)
		return cmd.CombinedOutput()
	}
	// 1 is "errors were corrected": the journal.
	if out, err := tool("e2fsck", "-fy", file); err != nil && err.(*exec.ExitError).ExitCode() > 1 {
		return nil, fmt.Errorf("the state partition: %v\n%s", err, out)
	}
	dump := file + ".record"
	defer os.Remove(dump)
	if out, err := tool("debugfs", "-R", "dump /update/state "+dump, file); err != nil {
		return nil, fmt.Errorf("debugfs: %v\n%s", err, out)
	}
	text, err := os.ReadFile(dump)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	r.records[key] = text
	return text, nil
}

// copyState writes the state partition of a power cut into a file, holes kept.
func (r *recording) copyState(to *os.File, c *writelog.Cut, p disk.Partition) error {
	if err := to.Truncate(p.Size); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for off := p.Start; off < p.Start+p.Size; {
		at := harness.NextData(r.base, off, p.Start+p.Size) / int64(writelog.Sector) * writelog.Sector
		if at >= p.Start+p.Size {
			break
		}
		n := min(int64(len(buf)), p.Start+p.Size-at)
		if _, err := r.base.ReadAt(buf[:n], at); err != nil {
			return err
		}
		if !bytes.Equal(buf[:n], make([]byte, n)) {
			if _, err := to.WriteAt(buf[:n], at-p.Start); err != nil {
				return err
			}
		}
		off = at + n
	}
	return c.Changes(p.Start, p.Size, func(off int64, sector []byte) error {
		_, err := to.WriteAt(sector, off)
		return err
	})
}

// judge starts a box after a power cut, in the model.
func (r *recording) judge(c *writelog.Cut) (ran *release, why string) {
	b, err := r.box(c)
	if err != nil {
		return nil, err.Error()
	}
	if v, e := fat.Open(b.esp, b.esp.Size); e != nil {
		return nil, e.Error()
	} else if twins, e := v.Twins(layout.ESPUKIDir); e != nil || len(twins) > 0 {
		return nil, fmt.Sprintf("two names of one content: %v, %v: the loader could not count", twins, e)
	}
	err = b.settle()
	said := func() string {
		if err != nil {
			return err.Error()
		}
		s := b.keeper.Slots()
		switch {
		case len(s.Problems) != 0 || len(s.Failed) != 0:
			return fmt.Sprintf("problems %q, failed %+v", s.Problems, s.Failed)
		case b.runs == r.new && (s.Last == nil || !s.Last.Committed || s.Last.Version != r.new.version || s.Floor != r.new.counter):
			return fmt.Sprintf("runs the new version and says %+v, floor %d", s.Last, s.Floor)
		case b.runs == r.old && s.Floor != r.old.counter:
			return fmt.Sprintf("runs the old version with floor %d", s.Floor)
		}
		return sound(b)
	}()
	if said != "" {
		said += "\n" + strings.Join(b.story, "\n")
	}
	return b.runs, said
}

// check cuts the power of the recorded update at many of its writes.
func (r *recording) check(u *updates, cuts, boots int) {
	t, begin := r.t, time.Now()
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 4))
	points := r.points(rng, cuts)
	boot := map[int]bool{}
	for range boots {
		boot[points[rng.IntN(len(points))]] = true
	}
	replay := writelog.NewReplay(r.writes, r.base)
	ended, dropped := map[string]int{}, 0
	for _, n := range points {
		replay.To(n)
		for i := range 1 + *chances {
			var chance *rand.Rand
			if i > 0 {
				chance = rand.New(rand.NewPCG(*seed, uint64(n*1000+i)))
			}
			c := replay.Cut(chance)
			ran, why := r.judge(c)
			if why != "" {
				t.Fatalf("cut after write %d of %d (seed %d, %d sectors un-flushed, chance %v): %s", n, len(r.writes.Entries), *seed, replay.Pending(), chance != nil, why)
			}
			ended[ran.version]++
			if replay.Pending() == 0 {
				break
			}
			dropped++
			if i == 1 && boot[n] {
				r.boot(u, c, n)
			}
		}
	}
	replay.To(r.to)
	if ran, why := r.judge(replay.Cut(nil)); ran != r.new || why != "" {
		t.Errorf("after the whole update: got %+v, %s", ran, why)
	}
	t.Logf("a real update of %d writes: the power cut after each of %d that go to boot partition, slots or state, %d cases, in %d of them un-flushed sectors lost or torn; it ends on %v; %.0f s",
		r.to-r.from, len(points), ended[r.old.version]+ended[r.new.version], dropped, ended, time.Since(begin).Seconds())
}

// boot has QEMU start the disk of a power cut.
func (r *recording) boot(u *updates, c *writelog.Cut, n int) {
	t := r.t
	m := *u
	m.machine = &machine{t: t, disk: filepath.Join(r.work, "cut.raw"), img: u.img}
	harness.Tool(t, "cp", "--sparse=always", r.disk, m.disk)
	f, err := os.OpenFile(m.disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err == nil {
		err = c.Changes(0, st.Size(), func(off int64, sector []byte) error { _, err := f.WriteAt(sector, off); return err })
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	m.start(nil, longAgo)
	m.Eventually(2*harness.BootTime, "the box comes to rest", func(context.Context) error {
		s, err := m.state()
		switch {
		case err != nil:
			return err
		case s.Last != nil && !s.Last.Committed:
			t.Fatalf("cut after write %d (seed %d): %+v", n, *seed, s.Last)
		case s.Trial != nil || s.Running != r.old.version && (s.Last == nil || s.Last.Version != s.Running):
			return fmt.Errorf("runs %s, %s", s.Running, s.Phase)
		}
		t.Logf("booted after a cut at write %d: it runs %s", n, s.Running)
		return nil
	})
	m.PowerOff()
	m.check()
}
