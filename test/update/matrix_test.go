package update

import (
	"cmp"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

var (
	matrix = flag.Bool("matrix", false, "all faults in virtual machines, one after the other, and not only a sample")
	rows   = flag.String("rows", "", "only those rows of the matrix whose name this expression matches")
)

// needMatrix skips what is not for each run.
func needMatrix(t *testing.T) {
	t.Helper()
	if !*matrix && !harness.Long() {
		t.Skip("takes up to three quarters of an hour: run make test-updates, or make test-all")
	}
}

// row says whether a row of the matrix is wanted.
func row(name string) bool { return regexp.MustCompile(*rows).MatchString(name) }

// fault is what strikes a new version, and what must come of it.
type fault struct {
	name  string
	item  string // of the hypervisor's table, for the new version alone
	word  string
	check string // that fails it, "" for any
	why   string // part of the reason
	blame string // "" is the version
}

// items are for the machine's table.
func (f fault) items(version string) map[string]string {
	if f.item == "" {
		return nil
	}
	return map[string]string{"opt/io.wayside/test." + f.item: f.word + "@" + version}
}

// early are faults that are certain before the trial's limit.
var early = []fault{
	{"a service crashes again and again", "service", "mqtt:crashloop", "services", "mqtt crashes again and again", ""},
	{"the broker answers wrongly", "service", "broker:lie", "canary", "the broker is wrong", ""},
	{"a kernel module is missing", "without", "virtio_rng", "kernel modules", "cannot now: virtio_rng", ""},
	// Init or the updater itself, between two crashes, is the first to say so.
	{"the updater crashes", "service", "updater:crashloop", "", "updater", ""},
}

// late are faults of which only the trial's limit, or the loader, makes an end.
var late = []fault{
	{"the network is configured wrongly", "network", "192.0.2.7/24", "update source", "10.0.2.2", ""},
	{"PID 1 hangs", "hang", "main-loop", "boot", "its boots ended without a word", ""},
	{"the update source is lost for the whole trial", "", "", "update source", "10.0.2.2", "world"},
}

// fails has the box try a version that a fault strikes, and waits until it is
// back on the old one and says why.
func (u *updates) fails(version, old string, f fault) {
	u.t.Helper()
	begin := time.Now()
	u.verb("refresh")
	u.verb("prepare")
	u.verb("activate")
	before, err := u.state()
	if err != nil {
		u.t.Fatal(err)
	}
	if f.blame == "world" {
		u.site.as("", hangUp)
		defer u.site.as("", nil)
	}
	u.verb("reboot")
	var last manifest.Outcome
	u.Eventually(3*harness.BootTime, version+" is given up", func(context.Context) error {
		s, err := u.state()
		end := fresh(s, before.Last, version)
		switch {
		case err != nil:
			return err
		case end != nil && end.Committed:
			u.t.Fatalf("%s: the version was kept: %+v", f.name, end)
		case end == nil || s.Running != old:
			return fmt.Errorf("runs %s, phase %s", s.Running, s.Phase)
		case s.Blame != cmp.Or(f.blame, "version"):
			return fmt.Errorf("blames %q", s.Blame)
		}
		last = *end
		return nil
	})
	if f.check != "" && last.Check != f.check || !strings.Contains(last.Reason, f.why) {
		u.t.Errorf("%s: the box says %s: %s; want %s: %s", f.name, last.Check, last.Reason, f.check, f.why)
	}
	u.t.Logf("%-46s %3.0f s  %s: %s", f.name, time.Since(begin).Seconds(), last.Check, last.Reason)
}

// hangUp answers nobody.
func hangUp(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// TestFaultMatrix strikes the new version with one fault after the other. Each
// time the box ends on the old version, with all records, and the right reason.
// In the end it goes to the newest release, past those in between.
func TestFaultMatrix(t *testing.T) {
	harness.NeedVM(t)
	needMatrix(t)
	u := newUpdates(t, build(t, "0.1.0", 10))
	u.publish(build(t, "0.2.0", 20))
	records := 0
	session := func(items map[string]string, do func()) {
		t.Helper()
		u.start(items, longAgo)
		u.runs("0.1.0")
		u.write(&records)
		do()
		u.write(&records)
		u.PowerOff()
		u.check()
	}
	if name := "the disk is full"; row(name) {
		free := u.fillData()
		u.start(nil, longAgo)
		u.runs("0.1.0")
		u.refuses(name, "refresh", "no space left on device")
		u.PowerOff()
		free()
	}
	// Before the rows that prepare 0.2.0: what the slot holds is not fetched again.
	if name := "the server stalls in the middle"; row(name) {
		session(nil, func() { u.stalls(name) })
	}
	if name := "the boot partition is full"; row(name) {
		free := u.fillBootPartition()
		session(nil, func() {
			u.verb("refresh")
			u.verb("prepare")
			u.refuses(name, "activate", "boot partition full")
		})
		free()
	}
	if name := "a driver in use was left out"; row(name) {
		board := "boards/" + harness.Board + "/board.yaml"
		bare := buildChanged(t, "0.5.0", 50, edit{board, "virtio_net, ", ""})
		early := buildChanged(t, "0.6.0", 60, edit{board, "virtio_blk, ", ""}, edit{board, "root: [", "root: [virtio_blk, "})
		u.publish(bare)
		u.publish(early)
		session(nil, func() {
			u.verb("refresh")
			u.verb("prepare")
			u.passedOver(name, "0.5.0", "no driver for what this box uses: net/eth0 (virtio:d00000001v00001AF4, whose driver is virtio_net)")
			u.passedOver(name, "0.6.0", "no driver for what this box uses: the start from vda")
			if s, err := u.state(); err != nil || s.Prepared == nil || s.Prepared.Version != "0.2.0" {
				t.Errorf("%s: the box prepared %+v, %v; want 0.2.0, which fits", name, s.Prepared, err)
			}
		})
		u.takeBack(bare)
		u.takeBack(early)
	}
	again := false
	for _, f := range slices.Concat(early, late) {
		if !row(f.name) {
			continue
		}
		session(f.items("0.2.0"), func() {
			if again {
				u.verb("retry")
			}
			again = true
			u.fails("0.2.0", "0.1.0", f)
		})
	}
	if name := "three releases behind"; row(name) {
		u.publish(build(t, "0.3.0", 30))
		u.publish(build(t, "0.4.0", 40))
		session(nil, func() {
			begin := time.Now()
			u.take("0.4.0")
			u.t.Logf("%-46s %3.0f s  0.1.0 to 0.4.0", name, time.Since(begin).Seconds())
			u.neighbour("0.4.0")
		})
	}
	u.start(nil, longAgo)
	u.WaitReady()
	if got := len(harness.ReadAll(t, u.Addr("kafka"), loadTopic)); got != records {
		t.Errorf("%d records are there, %d were acknowledged", got, records)
	}
	u.PowerOff()
}

// write produces some records and counts those that were acknowledged.
func (u *updates) write(n *int) {
	u.t.Helper()
	cl := harness.Client(u.t, u.Addr("kafka"), kgo.DefaultProduceTopic(loadTopic))
	defer cl.Close()
	for range 20 {
		if err := cl.ProduceSync(u.t.Context(), kgo.StringRecord("x")).FirstErr(); err != nil {
			u.t.Fatal(err)
		}
		*n++
	}
}

// refuses wants a verb to be refused, and the box to say why.
func (u *updates) refuses(name, verb, why string) {
	u.t.Helper()
	out, err := harness.Command(u.t, "box", "update", verb, "--box", "http://"+u.Addr("console"), "--token-file", u.token).CombinedOutput()
	s, statusErr := u.state()
	if err == nil || statusErr != nil || !strings.Contains(s.Problem, why) || s.Running != "0.1.0" {
		u.t.Errorf("%s: %s says %s and the box %+v, %v; want %q", name, verb, out, s, statusErr, why)
	}
	u.t.Logf("%-46s        %s", name, s.Problem)
}

// passedOver wants the box to say why it does not take a version.
func (u *updates) passedOver(name, version, why string) {
	u.t.Helper()
	s, err := u.state()
	if err != nil {
		u.t.Fatal(err)
	}
	for _, f := range s.Refused {
		if f.Name == version && strings.Contains(f.Value, why) {
			u.t.Logf("%-46s        %s: %s", name, version, f.Value)
			return
		}
	}
	u.t.Errorf("%s: the box refuses %v, want %s: %s", name, s.Refused, version, why)
}

// neighbour has a second box update from this one, which has no other source.
func (u *updates) neighbour(version string) {
	u.t.Helper()
	n := newUpdates(u.t, build(u.t, "0.1.0", 10))
	n.configure("box:"+fromBox(u.t, u.Addr("console")), 4)
	n.start(nil, longAgo)
	n.runs("0.1.0")
	begin := time.Now()
	n.take(version)
	u.t.Logf("%-46s %3.0f s", "another box from that one", time.Since(begin).Seconds())
	n.PowerOff()
	n.check()
}

// takeBack removes a release from the repository.
func (u *updates) takeBack(r *built) {
	u.t.Helper()
	out, err := harness.Command(u.t, "publish", "--keys", keyDir(u.t), "--repo", u.repo, "--remove", r.activate.Version).CombinedOutput()
	if err != nil {
		u.t.Fatalf("remove %s: %v\n%s", r.activate.Version, err, out)
	}
}

// fillData has the data partition of a box that is off leave no room but to
// root, until free.
func (u *updates) fillData() (free func()) {
	p := harness.OpenPartition(u.t, u.disk, layout.Data)
	super := make([]byte, 1024)
	if _, err := p.ReadAt(super, 1024); err != nil {
		u.t.Fatal(err)
	}
	reserve := func(blocks uint32) {
		// s_r_blocks_count_lo; s_checksum is the CRC-32C of all before it,
		// without the final inversion.
		binary.LittleEndian.PutUint32(super[8:], blocks)
		sum := ^crc32.Checksum(super[:1020], crc32.MakeTable(crc32.Castagnoli))
		binary.LittleEndian.PutUint32(super[1020:], sum)
		if _, err := p.WriteAt(super, 1024); err != nil {
			u.t.Fatal(err)
		}
	}
	was := binary.LittleEndian.Uint32(super[8:])
	reserve(binary.LittleEndian.Uint32(super[4:])) // all there are
	return func() {
		if _, err := p.ReadAt(super, 1024); err != nil {
			u.t.Fatal(err)
		}
		reserve(was)
	}
}

// fillBootPartition leaves no room for a kernel image, until free.
func (u *updates) fillBootPartition() (free func()) {
	p := harness.OpenPartition(u.t, u.disk, layout.ESP)
	open := func() *fat.Volume {
		v, err := fat.Open(atRest{p}, p.Info.Size)
		if err != nil {
			u.t.Fatal(err)
		}
		return v
	}
	const name = "holidays.avi"
	size := open().Free() - 8<<20
	zeros := io.LimitReader(nothing{}, size)
	if err := open().Create("/", name, zeros, size, time.Unix(1_800_000_000, 0)); err != nil {
		u.t.Fatal(err)
	}
	return func() {
		if err := open().Remove("/", name); err != nil {
			u.t.Fatal(err)
		}
	}
}

// atRest is a partition of a disk that is not in use.
type atRest struct{ harness.Partition }

func (atRest) Sync() error { return nil }

type nothing struct{}

func (nothing) Read(p []byte) (int, error) { clear(p); return len(p), nil }
