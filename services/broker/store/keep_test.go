package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

const day = 24 * 3600 * 1000

// TestClockJumpsDeleteNothing: whatever the wall clock and the producers'
// timestamps say, records stay for retention.ms of the log's own time, and not
// much longer.
func TestClockJumpsDeleteNothing(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	wall, age := time.UnixMilli(0), int64(0) // no clock yet
	opts := store.Options{
		Settings: store.Settings{SegmentBytes: 300},
		Now:      func() time.Time { return wall }, Age: func() int64 { return age },
	}
	l := open(t, fsys, opts)
	keep := store.Retention{Bytes: -1, Ms: 7 * day}
	value := strings.Repeat("x", 100)
	write := func() { putDurable(t, l, spec{values: []string{value}, ms: wall.UnixMilli()}) }
	check := func(what string, want int64) {
		t.Helper()
		must(t, l.Retain(keep))
		if start, _ := l.Bounds(); start != want {
			t.Errorf("%s: log begins at %d, want %d", what, start, want)
		}
	}
	for range 10 {
		write()
	}
	wall = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC) // the time server answers
	write()
	check("clock set from 1970", 0)
	wall = wall.AddDate(10, 0, 0)
	write()
	check("clock ten years ahead", 0)
	wall = time.UnixMilli(0)
	write()
	check("clock back in 1970", 0)
	must(t, l.Close())
	wall = wall.AddDate(80, 0, 0)
	l = open(t, fsys, opts)
	check("restart with another clock", 0)
	age += 6 * day
	write()
	check("after six days", 0)
	must(t, l.Close())
	l = open(t, fsys, opts)
	age += 1*day + 1
	check("after a week", 13)
	age += 6 * day
	check("after six more days, quiet", 14) // the active segment goes too
	if s := l.Stats(); s.End != 14 || s.Bytes != 0 {
		t.Errorf("quiet log: %d bytes up to %d, want none up to 14", s.Bytes, s.End)
	}
	write()
	must(t, l.Close())
	l = open(t, fsys.Crash(), opts)
	defer l.Close()
	if got := readAll(t, l, 14); len(got) != 1 {
		t.Errorf("after a crash: %d records, want 1", len(got))
	}
}

// TestRollByTime: a quiet log's segment is sealed when it is old, by whoever
// comes first, and counts from its first record.
func TestRollByTime(t *testing.T) {
	var age int64
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentMs: 1000}, Age: func() int64 { return age }}
	l := open(t, fsys, opts)
	segments := func(want int) {
		t.Helper()
		if n := l.Stats().Segments; n != want {
			t.Errorf("at %d ms: %d segments, want %d", age, n, want)
		}
	}
	age = 5000 // empty: not the segment's age counts
	putDurable(t, l, spec{values: []string{"a"}})
	age = 5999
	putDurable(t, l, spec{values: []string{"b"}})
	segments(1)
	must(t, l.Close())
	l = open(t, fsys, opts)
	age = 6000
	putDurable(t, l, spec{values: []string{"c"}})
	segments(2)
	age = 7000
	must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
	segments(3)
	age = 9000
	must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
	segments(3)
	l.Configure(store.Settings{SegmentMs: 1 << 60, Compaction: store.Compaction{Compact: true, MaxLagMs: 100}})
	putDurable(t, l, spec{values: []string{"d"}})
	age = 9100
	must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
	segments(4)
	must(t, l.Close())
}

// TestRestartAfterFailedSync: what a failed sync lost is still in the page
// cache, and the file system says nothing of it any more. The next start must
// not take it for a part of the log: consumers would read it, and a power cut
// would take it away.
func TestRestartAfterFailedSync(t *testing.T) {
	lost := 0
	for seed := range uint64(40) {
		for _, settled := range []bool{false, true} {
			fsys := vfs.NewCrashable(seed)
			l := open(t, fsys, store.Options{})
			putDurable(t, l, spec{values: []string{"good"}})
			fsys.SetHook(vfs.FailNth(vfs.OpSync, "p/*.log", 1, syscall.EIO, false))
			a, err := put(l, batch(spec{values: []string{strings.Repeat("b", 600), strings.Repeat("c", 600)}}))
			must(t, err)
			if err := l.Wait(ctx(t), a.Next); !errors.Is(err, store.ErrReadOnly) {
				t.Fatalf("seed %d: sync did not fail: %v", seed, err)
			}
			l.Close()
			fsys.SetHook(nil)
			if settled {
				must(t, fsys.SyncAll())
			}
			l = open(t, fsys, store.Options{Settled: func() bool { return settled }})
			served := readAll(t, l, 0)
			if len(served) < 3 {
				lost++
			}
			putDurable(t, l, spec{values: []string{"more"}})
			l = open(t, fsys.Crash(), store.Options{})
			if got := readAll(t, l, 0); !cmp.Equal(got, append(served, "more")) {
				t.Fatalf("seed %d, settled %v: served %d records and one more, after a power cut there are %d", seed, settled, len(served), len(got))
			}
			l.Close()
		}
	}
	if lost == 0 {
		t.Error("no seed lost what a failed sync had not written: the test shows nothing")
	}
}

// rot flips one bit of a file.
func rot(t *testing.T, fsys vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, at)
	must(t, err)
	must(t, f.Sync())
}

// readOver returns the values of all records that are still there.
func readOver(t *testing.T, l *store.Log) []string {
	t.Helper()
	var out []string
	for offset, hw := l.Bounds(); offset < hw; {
		s, err := l.Read(offset, 1<<20, true)
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if s == nil {
			return out
		}
		b := make([]byte, s.Len())
		must(t, s.ReadAt(b, 0))
		s.Release()
		before := offset
		for len(b) > 0 {
			h, err := store.ParseHeader(b)
			if err != nil || h.Size() > int64(len(b)) {
				break
			}
			if _, err := store.Check(b[:h.Size()]); err != nil && h.Records > 0 && h.LastOffsetDelta == h.Records-1 {
				t.Fatalf("read at %d: %v", h.BaseOffset, err)
			}
			out = append(out, values(t, b[:h.Size()])...)
			offset, b = h.LastOffset()+1, b[h.Size():]
		}
		if offset == before {
			t.Fatalf("read at %d: no whole batch: a consumer would ask for ever", offset)
		}
	}
	return out
}

// TestDamageWhileOff flips single bits of a log whose broker was killed. One
// batch at most is lost, the loss is told of, and the log goes on.
func TestDamageWhileOff(t *testing.T) {
	const count = 12
	size := int64(len(batch(spec{values: []string{fmt.Sprintf("%030d", 0)}, ms: 1})))
	for _, ext := range []string{"", "mark", "checkpoint"} {
		for at := int64(0); at < count*size; at += 7 {
			if in := at % size; in >= 12 && in < 16 {
				continue // the leader epoch, which the checksum does not cover
			}
			fsys := vfs.NewCrashable(1)
			l := open(t, fsys, store.Options{})
			var want []string
			for i := range count {
				want = append(want, fmt.Sprintf("%030d", i))
				a := putDurable(t, l, spec{values: want[i:], ms: 1})
				if a.Base != int64(i) {
					t.Fatalf("record %d at %d", i, a.Base)
				}
			}
			killed := fsys.CrashClone() // everything was synced, and the mark most likely
			for name := "p/00000000000000000000.log"; name != ""; name = "" {
				if info, _ := readFile(killed, name); int64(len(info)) != count*size {
					t.Fatalf("%d bytes, want %d", len(info), count*size)
				}
			}
			l.Close()
			copyFile(t, fsys, killed, "p/mark")
			if ext != "" {
				killed.Remove("p/" + ext)
			}
			rot(t, killed, "p/00000000000000000000.log", at)
			l = open(t, killed, store.Options{})
			hit := int(at / size)
			left := append(append([]string{}, want[:hit]...), want[hit+1:]...)
			if ext == "mark" {
				left = want[:hit] // nobody knows that it was not the torn tail
			}
			if got := readOver(t, l); strings.Join(got, " ") != strings.Join(left, " ") {
				t.Fatalf("without %q, byte %d: %d records left, want %d", ext, at, len(got), len(left))
			}
			s := l.Stats()
			if told := len(s.Damaged) == 1; told != (ext != "mark") {
				t.Errorf("without %q, byte %d: damage told of: %v", ext, at, s.Damaged)
			}
			if ext == "mark" && hit < count-2 {
				if b, err := readFile(killed, fmt.Sprintf("p/%020d.log.lost", hit)); err != nil || int64(len(b)) != int64(count-hit)*size {
					t.Errorf("byte %d: the tail that was cut is not kept: %d bytes, %v", at, len(b), err)
				}
			}
			if ext != "mark" && s.End != count {
				t.Errorf("byte %d: log ends at %d, want %d: offsets were acknowledged", at, s.End, count)
			}
			putDurable(t, l, spec{values: []string{"more"}})
			must(t, l.Close())
			l = open(t, killed.Crash(), store.Options{})
			if got := readOver(t, l); !slices.Equal(got, append(left, "more")) {
				t.Fatalf("byte %d: after a restart %d records are left", at, len(got))
			}
			must(t, l.Close())
		}
	}
}

func readFile(fsys vfs.FS, name string) ([]byte, error) { return frame.ReadFile(fsys, name) }

func copyFile(t *testing.T, from, to vfs.FS, name string) {
	t.Helper()
	b, err := readFile(from, name)
	must(t, err)
	must(t, frame.WriteFile(to, name, bytes.Clone(b)))
}

// TestCutWhileRolling takes the power away at every operation of appending,
// rolling by size and by time, checkpoints, retention and closing. Nothing
// acknowledged is lost, and nothing counts as damage.
func TestCutWhileRolling(t *testing.T) {
	var age int64
	opts := store.Options{
		Settings: store.Settings{SegmentBytes: 400, SegmentMs: 1000}, Age: func() int64 { return age },
	}
	type cut struct {
		fsys  *vfs.Crashable
		acked int // records acknowledged by then
		start int64
		step  string
	}
	fsys := vfs.NewCrashable(5)
	l := open(t, fsys, opts)
	var mu sync.Mutex
	var cuts []cut
	acked, trimmed, step := 0, int64(0), ""
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op != vfs.OpRead && op != vfs.OpOpen {
			mu.Lock()
			defer mu.Unlock()
			for range 5 {
				cuts = append(cuts, cut{fsys.CrashClone(), acked, trimmed, fmt.Sprint(step, " ", op, " ", name)})
			}
		}
		return nil
	})
	set := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	for i := range 12 {
		set(func() { step = fmt.Sprint("append ", i) })
		putDurable(t, l, spec{values: []string{fmt.Sprintf("%060d", i)}})
		set(func() { acked = i + 1 })
		switch i {
		case 4:
			set(func() { step = "roll by time" })
			age += 1000
			must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
		case 6:
			set(func() { step = "save" })
			must(t, l.Save())
		case 9:
			set(func() { step, trimmed = "retain", 5 })
			must(t, l.Retain(store.Retention{Bytes: 500, Ms: -1}))
		}
	}
	set(func() { step = "close" })
	must(t, l.Close())
	fsys.SetHook(nil)
	for i, c := range cuts {
		l := open(t, c.fsys, opts)
		s := l.Stats()
		got := readAll(t, l, s.Start)
		if int(s.End) < c.acked || s.Start > c.start || len(s.Damaged) > 0 {
			t.Fatalf("cut %d, %s: log is %d to %d, %d acknowledged, damage %v", i, c.step, s.Start, s.End, c.acked, s.Damaged)
		}
		for k, v := range got {
			if v != fmt.Sprintf("%060d", int(s.Start)+k) {
				t.Fatalf("cut %d, %s: offset %d holds %s", i, c.step, int(s.Start)+k, v)
			}
		}
		must(t, l.Close())
	}
	if len(cuts) < 200 {
		t.Errorf("%d cuts: the test shows too little", len(cuts))
	}
}
