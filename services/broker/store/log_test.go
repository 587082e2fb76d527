package store_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestReadBack writes through several segments and reads from every offset.
func TestReadBack(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 20000}})
	var want []string
	for i := 0; i < 400; i += 2 {
		vals := numbered("v"+strings.Repeat("x", i%300), i, 2)
		putDurable(t, l, spec{values: vals, ms: int64(1000 + i)})
		want = append(want, vals...)
	}
	if n := l.Stats().Segments; n < 3 {
		t.Fatalf("%d segments, want the log to have rolled", n)
	}
	check := func(l *store.Log) {
		t.Helper()
		for from := 0; from < len(want); from += 7 {
			if diff := cmp.Diff(want[from:], readAll(t, l, int64(from))); diff != "" {
				t.Fatalf("from offset %d (-want +got):\n%s", from, diff)
			}
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	reads := 0
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpRead && strings.HasSuffix(name, ".log") {
			reads++
		}
		return nil
	})
	again := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 20000}})
	if reads != 0 {
		t.Errorf("opening after a clean stop read %d times from segments, want none", reads)
	}
	fsys.SetHook(nil)
	check(again)
	again.Close()
	fsys.Remove("p/checkpoint") // then everything is read, to the same result
	again = open(t, fsys, store.Options{})
	check(again)
	again.Close()
}

func TestOffsetForTime(t *testing.T) {
	l := open(t, vfs.NewCrashable(1), store.Options{Settings: store.Settings{SegmentBytes: 5000}})
	defer l.Close()
	for i := range 100 {
		putDurable(t, l, spec{values: numbered(strings.Repeat("x", 300), 0, 3), ms: int64(10 * i)})
	}
	for _, tt := range []struct{ ms, want int64 }{{-5, 0}, {0, 0}, {1, 1}, {3, 3}, {10, 3}, {502, 152}, {503, 153}, {992, 299}} {
		got, ok, err := l.OffsetForTime(tt.ms)
		if err != nil || !ok || got.Offset != tt.want {
			t.Errorf("time %d: got %+v, %v, %v, want offset %d", tt.ms, got, ok, err, tt.want)
		}
	}
	if got, ok, err := l.OffsetForTime(993); ok || err != nil {
		t.Errorf("time after the last record: got %+v, %v, want nothing", got, err)
	}
}

// TestNotReadableBeforeSync holds a sync back: what waits for it is neither
// acknowledged nor readable.
func TestNotReadableBeforeSync(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	gate := make(chan struct{})
	fsys.SetHook(func(op vfs.Op, _ string) error {
		if op == vfs.OpSync {
			<-gate
		}
		return nil
	})
	a, err := put(l, batch(spec{values: []string{"a"}}))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := l.Read(0, 1000, true); s != nil || err != nil {
		t.Errorf("read before the sync: got %v, %v, want nothing", s, err)
	}
	if _, hw := l.Bounds(); hw != 0 {
		t.Errorf("high watermark before the sync: %d", hw)
	}
	close(gate)
	if err := l.Wait(ctx(t), a.Next); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, l, 0); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("after the sync: %v", got)
	}
	l.Close()
}

// TestGroupCommit lets many appends wait for one slow sync.
func TestGroupCommit(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	defer l.Close()
	var mu sync.Mutex
	syncs, gate := 0, make(chan struct{})
	fsys.SetHook(func(op vfs.Op, _ string) error {
		if op != vfs.OpSync {
			return nil
		}
		mu.Lock()
		syncs++
		mu.Unlock()
		<-gate
		return nil
	})
	for i := range 50 {
		if _, err := put(l, batch(spec{values: numbered("v", i, 1)})); err != nil {
			t.Fatal(err)
		}
	}
	close(gate)
	if err := l.Wait(ctx(t), 50); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if syncs > 2 {
		t.Errorf("%d syncs for 50 appends that waited together, want at most 2", syncs)
	}
}

func TestFailedSyncIsFinal(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	putDurable(t, l, spec{values: []string{"good"}})
	fsys.SetHook(vfs.FailNth(vfs.OpSync, "p/*.log", 1, syscall.EIO, false))
	a, err := put(l, batch(spec{values: []string{"bad"}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Wait(ctx(t), a.Next); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("wait: got %v, want ErrReadOnly", err)
	}
	if _, err := put(l, batch(spec{values: []string{"more"}})); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("append after a failed sync: got %v, want ErrReadOnly", err)
	}
	if got := readAll(t, l, 0); !cmp.Equal(got, []string{"good"}) {
		t.Errorf("reading goes on: got %v", got)
	}
	if l.Stats().Err == nil {
		t.Error("stats do not say why the log is read-only")
	}
	l.Close()
}

// TestFailedReadIsNotFinal: what cannot be read is an error of that read. The
// log takes records, and tries the disk again for the next reader.
func TestFailedReadIsNotFinal(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	defer l.Close()
	putDurable(t, l, spec{values: []string{"a", "b"}, ms: 10})
	fsys.SetHook(vfs.FailNth(vfs.OpRead, "p/*.log", 1, syscall.EIO, true))
	if s, err := l.Read(0, 1000, true); s != nil || err == nil || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("read: got %v, %v, want an error that is not corruption", s, err)
	}
	if _, _, err := l.OffsetForTime(11); err == nil || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("look into a batch: got %v, want an error that is not corruption", err)
	}
	putDurable(t, l, spec{values: []string{"c"}, ms: 20})
	fsys.SetHook(nil)
	if got := readAll(t, l, 0); !cmp.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("when the disk reads again: %v", got)
	}
}

func TestFullDiskGoesOn(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	putDurable(t, l, spec{values: []string{"a"}})
	fsys.SetCapacity(200)
	if _, err := put(l, batch(spec{values: []string{strings.Repeat("b", 300)}})); !errors.Is(err, store.ErrFull) {
		t.Fatalf("full disk: got %v, want ErrFull", err)
	}
	fsys.SetCapacity(0)
	putDurable(t, l, spec{values: []string{"c"}})
	l.Close()
	l = open(t, fsys.Crash(), store.Options{})
	if got := readAll(t, l, 0); !cmp.Equal(got, []string{"a", "c"}) {
		t.Errorf("after the disk had room again: %v", got)
	}
	l.Close()
}

// TestFullDiskWhileRolling: whatever step of a roll finds the disk full, what
// is acknowledged afterwards survives. Once the checkpoint may name the next
// segment, appending to the old one would be lost.
func TestFullDiskWhileRolling(t *testing.T) {
	for _, at := range []struct {
		op   vfs.Op
		name string
	}{
		{vfs.OpCreate, "p/*.index.tmp"}, {vfs.OpSync, "p/*.timeindex.tmp"}, {vfs.OpCreate, "p/*1.log"},
		{vfs.OpWrite, "p/checkpoint.tmp"}, {vfs.OpRename, "p/checkpoint.tmp -> p/checkpoint"}, {vfs.OpSyncDir, "p"},
	} {
		fsys := vfs.NewCrashable(1)
		l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 300}})
		putDurable(t, l, spec{values: []string{"a"}})
		fsys.SetHook(vfs.FailNth(at.op, at.name, 1, syscall.ENOSPC, false))
		if _, err := put(l, batch(spec{values: []string{strings.Repeat("b", 300)}})); err == nil {
			t.Fatalf("%s %s: the roll did not fail", at.op, at.name)
		}
		want := []string{"a"}
		if a, err := put(l, batch(spec{values: []string{"c"}})); err == nil { // fits the old segment
			must(t, l.Wait(ctx(t), a.Next))
			want = append(want, "c")
		} else if at.op != vfs.OpSyncDir {
			t.Errorf("%s %s: append when there is room again: %v", at.op, at.name, err)
		}
		for range 8 {
			again := open(t, fsys.CrashClone(), store.Options{})
			if got, end := readAll(t, again, 0), again.Stats().End; !cmp.Equal(got, want) || end != int64(len(want)) {
				t.Errorf("%s %s: after a power cut: %v up to %d, want %v", at.op, at.name, got, end, want)
			}
			again.Close()
		}
		l.Close()
	}
}

// TestCutWhileClosing: a clean stop writes index files that an earlier one
// made too. A power cut in between must not leave a time index that is too
// short: lookups and retention would believe it.
func TestCutWhileClosing(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		fsys := vfs.NewCrashable(1)
		l := open(t, fsys, store.Options{})
		putDurable(t, l, spec{values: []string{"a"}, ms: 5000})
		must(t, l.Close())
		l = open(t, fsys, store.Options{})
		putDurable(t, l, spec{values: []string{"b"}, ms: 10})
		fsys.SetHook(vfs.FailNth(op, "p/*.timeindex*", 1, syscall.EIO, true))
		if l.Close() == nil {
			t.Fatalf("%s: close did not fail", op)
		}
		fsys.SetHook(nil)
		for range 20 {
			again := open(t, fsys.CrashClone(), store.Options{})
			if got, ok, err := again.OffsetForTime(4000); !ok || err != nil || got.Offset != 0 {
				t.Errorf("%s: record of 5000 ms: got %+v, %v, %v", op, got, ok, err)
			}
			again.Close()
		}
	}
}

// TestLostSegments: what fsck took away is gone, and consumers go on behind it.
func TestLostSegments(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 100}}
	l := open(t, fsys, opts)
	for i := range 5 {
		putDurable(t, l, spec{values: numbered(strings.Repeat("x", 60), i, 1)})
	}
	must(t, l.Close())
	for _, base := range []string{"0", "2"} {
		must(t, fsys.Remove("p/0000000000000000000"+base+".log"))
	}
	l = open(t, fsys, opts)
	defer l.Close()
	if _, err := l.Read(0, 1000, true); !errors.Is(err, store.ErrOutOfRange) {
		t.Errorf("read in the lost first segment: got %v, want ErrOutOfRange", err)
	}
	s, err := l.Read(2, 1000, true)
	must(t, err)
	defer s.Release()
	b := make([]byte, s.Len())
	must(t, s.ReadAt(b, 0))
	if h, err := store.ParseHeader(b); err != nil || h.BaseOffset != 3 {
		t.Errorf("read in a lost segment: got batch %+v, %v, want the one at 3", h, err)
	}
}

func TestRetention(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	var age int64
	opts := store.Options{Settings: store.Settings{SegmentBytes: 1000}, Age: func() int64 { return age }}
	l := open(t, fsys, opts)
	for i := range 20 {
		age = int64(1000 * i)
		putDurable(t, l, spec{values: numbered(strings.Repeat("x", 400), i, 1)})
	}
	must(t, l.Retain(store.Retention{Bytes: -1, Ms: 10_500}))
	start, _ := l.Bounds()
	if start == 0 || start > 9 {
		t.Errorf("after retention by time the log begins at %d, want 1 to 9: the newest record was appended at 19000 ms", start)
	}
	must(t, l.Retain(store.Retention{Bytes: 2000, Ms: -1}))
	if s := l.Stats(); s.Bytes < 2000 || s.Bytes > 3000 {
		t.Errorf("after retention by size: %d bytes", s.Bytes)
	}
	must(t, l.Trim(19))
	if _, err := l.Read(18, 10, true); !errors.Is(err, store.ErrOutOfRange) {
		t.Errorf("read before the start: got %v, want ErrOutOfRange", err)
	}
	l.Close()
	l = open(t, fsys.Crash(), opts)
	if start, hw := l.Bounds(); start != 19 || hw != 20 {
		t.Errorf("after a crash: log is %d to %d, want 19 to 20", start, hw)
	}
	if got := readAll(t, l, 19); len(got) != 1 {
		t.Errorf("after a crash: %d records", len(got))
	}
	l.Close()
}

func TestProducers(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 600}}
	l := open(t, fsys, opts)
	next := func(seq int32) spec { return spec{values: []string{"x", "y"}, pid: 7, seq: seq} }
	for seq := int32(0); seq < 20; seq += 2 {
		putDurable(t, l, next(seq))
	}
	check := func(l *store.Log) {
		t.Helper()
		a, err := put(l, batch(next(14)))
		if err != nil || !a.Duplicate || a.Base != 14 {
			t.Errorf("batch sent again: got %+v, %v, want a duplicate at 14", a, err)
		}
		if _, err := put(l, batch(next(24))); !errors.Is(err, store.ErrOutOfOrder) {
			t.Errorf("gap in sequence: got %v, want ErrOutOfOrder", err)
		}
		if _, err := put(l, batch(spec{values: []string{"z"}, pid: 7, epoch: 1, seq: 5})); !errors.Is(err, store.ErrOutOfOrder) {
			t.Errorf("new epoch not at 0: got %v, want ErrOutOfOrder", err)
		}
	}
	check(l)
	clean := fsys.CrashClone()
	l.Close()
	for name, fs := range map[string]vfs.FS{"after close": fsys, "after crash": clean} {
		l := open(t, fs, opts)
		check(l)
		putDurable(t, l, spec{values: []string{"z"}, pid: 7, epoch: 1, seq: 0})
		if _, err := put(l, batch(next(20))); !errors.Is(err, store.ErrProducerEpoch) {
			t.Errorf("%s: old epoch: got %v, want ErrProducerEpoch", name, err)
		}
		l.Close()
	}
}

// TestManyProducers: short-lived producers are forgotten in time, the one that
// is active is not.
func TestManyProducers(t *testing.T) {
	l := open(t, vfs.NewCrashable(1), store.Options{})
	defer l.Close()
	for i := range 3000 {
		for _, s := range []spec{{pid: int64(i + 100)}, {pid: 7, seq: int32(i)}} {
			s.values = []string{"x"}
			if _, err := put(l, batch(s)); err != nil {
				t.Fatal(err)
			}
		}
	}
	must(t, l.Wait(ctx(t), 6000))
	if a, err := put(l, batch(spec{values: []string{"x"}, pid: 7, seq: 2998})); err != nil || !a.Duplicate {
		t.Errorf("the active producer is forgotten: %+v, %v", a, err)
	}
	if a, err := put(l, batch(spec{values: []string{"x"}, pid: 100})); err != nil || a.Duplicate {
		t.Errorf("the oldest producer is remembered: %+v, %v", a, err)
	}
}

func TestEpochs(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	for e := range int32(3) { // epochs 1, 2, 3; nothing is written in 2
		l := open(t, fsys, store.Options{Epoch: e + 1})
		if e != 1 {
			putDurable(t, l, spec{values: []string{"a", "b"}})
		}
		l.Close()
	}
	l := open(t, fsys, store.Options{Epoch: 4})
	defer l.Close()
	for _, tt := range []struct {
		ask, epoch int32
		end        int64
	}{{-1, -1, -1}, {0, 0, 0}, {1, 1, 2}, {2, 1, 2}, {3, 3, 4}, {4, 4, 4}, {5, -1, -1}} {
		if e, end := l.EpochEnd(tt.ask); e != tt.epoch || end != tt.end {
			t.Errorf("epoch %d: got %d ending at %d, want %d at %d", tt.ask, e, end, tt.epoch, tt.end)
		}
	}
}

// TestSyncOrder shows every step that matters for durability, in order, so
// that a review sees one that is missing.
func TestSyncOrder(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	var mu sync.Mutex
	var got strings.Builder
	fsys.SetHook(func(op vfs.Op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op != vfs.OpOpen && op != vfs.OpRead {
			fmt.Fprintln(&got, op, name)
		}
		return nil
	})
	step := func(s string) { fmt.Fprintln(&got, "#", s) }
	step("create")
	l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 150}})
	step("append")
	putDurable(t, l, spec{values: []string{"a"}})
	step("append, roll")
	putDurable(t, l, spec{values: []string{strings.Repeat("b", 100)}})
	step("trim")
	must(t, l.Trim(1))
	step("close")
	must(t, l.Close())
	step("open, close")
	must(t, open(t, fsys, store.Options{}).Close())
	const golden = "testdata/sync_order.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("order of changes on disk (-want +got):\n%s", diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
