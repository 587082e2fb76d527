package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

const quiet = 600_000 // ms

// scrubAll goes over a log as housekeeping does.
func scrubAll(t *testing.T, l *store.Log) (segments int) {
	t.Helper()
	for next := int64(0); ; segments++ {
		var err error
		if next, err = l.Scrub(ctx(t), noPace, next); next < 0 || err != nil {
			must(t, err)
			return segments
		}
	}
}

// sealedLog is a log of some segments, the last of which is written, and the
// values in it.
func sealedLog(t *testing.T, fsys vfs.FS, opts store.Options) (*store.Log, []string) {
	t.Helper()
	opts.Settings.SegmentBytes = 900
	l := open(t, fsys, opts)
	var want []string
	for i := range 30 {
		want = append(want, fmt.Sprintf("%060d", i))
		putDurable(t, l, spec{values: want[i:], ms: int64(i)})
	}
	return l, want
}

// TestScrub flips bits in segments that are never read at start. Scrubbing
// finds each, says where it is, and remembers; the neighbours are served, and
// what was acknowledged behind it too.
func TestScrub(t *testing.T) {
	for seed := range 40 {
		age := int64(1)
		opts := store.Options{Age: func() int64 { return age }}
		fsys := vfs.NewCrashable(1)
		l, want := sealedLog(t, fsys, opts)
		if n := scrubAll(t, l); n != 0 {
			t.Fatalf("%d segments scrubbed that have just been written", n)
		}
		age += quiet
		if n := scrubAll(t, l); n != l.Stats().Segments || len(l.Stats().Damaged) != 0 {
			t.Fatalf("%d segments of %d scrubbed, damage %v", n, l.Stats().Segments, l.Stats().Damaged)
		}
		name := fmt.Sprintf("p/%020d.log", []int{0, 6, 12, 24}[seed%4])
		b, err := readFile(fsys, name)
		must(t, err)
		at := int64(seed*131) % int64(len(b))
		if in := at % int64(len(b)/6); in >= 12 && in < 16 {
			continue // leader epoch
		}
		rot(t, fsys, name, at)
		scrubAll(t, l)
		check := func(what string) {
			t.Helper()
			s := l.Stats()
			if len(s.Damaged) != 1 || s.Damaged[0].To-s.Damaged[0].From != 1 || s.End != 30 {
				t.Fatalf("seed %d, %s: damage %v, want one batch", seed, what, s.Damaged)
			}
			lost := int(s.Damaged[0].From)
			if d := s.Damaged[0]; fmt.Sprintf("p/%020d.log", d.Segment) != name || at < d.Pos || at >= d.End {
				t.Fatalf("seed %d, %s: damage %v, the bit is in %s at %d", seed, what, d, name, at)
			}
			if got := readOver(t, l); !slices.Equal(got, slices.Delete(slices.Clone(want), lost, lost+1)) {
				t.Fatalf("seed %d, %s: %d records left, want all but %d", seed, what, len(got), lost)
			}
			if at, ok, err := l.OffsetForTime(int64(lost)); err != nil || !ok && lost < 29 || ok && at.Offset != int64(lost)+1 {
				t.Fatalf("seed %d, %s: time of the lost record: %+v, %v, %v", seed, what, at, ok, err)
			}
		}
		check("found")
		l.Close()
		l = open(t, fsys.Crash(), opts)
		check("after a crash")
		scrubAll(t, l)
		check("scrubbed again")
		l.Close()
	}
}

// TestScrubSectors: what the disk refuses to read is damage, not a reason to
// stop; what it refuses once is not.
func TestScrubSectors(t *testing.T) {
	age := int64(1)
	fsys := vfs.NewCrashable(1)
	l, want := sealedLog(t, fsys, store.Options{Age: func() int64 { return age }})
	age += quiet
	var mu sync.Mutex
	left := 1
	fsys.SetHook(func(op vfs.Op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == vfs.OpRead && name == "p/00000000000000000006.log" && left != 0 {
			left--
			return syscall.EIO
		}
		return nil
	})
	scrubAll(t, l)
	if d := l.Stats().Damaged; len(d) != 0 {
		t.Errorf("one failed read: damage %v", d)
	}
	mu.Lock()
	left = -1
	mu.Unlock()
	scrubAll(t, l)
	fsys.SetHook(nil)
	if got := readOver(t, l); len(l.Stats().Damaged) != 1 || len(got) != len(want)-6 {
		t.Errorf("segment that cannot be read: damage %v, %d records left of %d", l.Stats().Damaged, len(got), len(want))
	}
	l.Close()
}

// TestReadersRaiseSuspicion: a header that is no header is found by the reader
// that stumbles over it, a wrong checksum by one that asks again and again.
func TestReadersRaiseSuspicion(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   int64
	}{{"header", 16}, {"record", 120}} {
		age := int64(1)
		fsys := vfs.NewCrashable(1)
		l, want := sealedLog(t, fsys, store.Options{Age: func() int64 { return age }})
		rot(t, fsys, "p/00000000000000000006.log", tt.at)
		for range 300 {
			s, err := l.Read(6, 1000, true)
			if err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			s.Release()
		}
		if !l.Suspect() {
			t.Errorf("%s: nobody suspects the segment", tt.name)
		}
		must(t, l.ScrubSuspect(ctx(t), noPace))
		if got := readOver(t, l); !slices.Equal(got, append(slices.Clone(want[:6]), want[7:]...)) {
			t.Errorf("%s: %d records left, want all but the seventh", tt.name, len(got))
		}
		l.Close()
	}
}

// TestDamagedIndex: an index that leads nowhere is not believed, and is made
// anew by scrubbing.
func TestDamagedIndex(t *testing.T) {
	age := int64(1)
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 40_000}, Age: func() int64 { return age }}
	l := open(t, fsys, opts)
	var want []string
	for i := range 200 {
		want = append(want, strings.Repeat("x", 500)+fmt.Sprint(i))
		putDurable(t, l, spec{values: want[i:], ms: int64(i)})
	}
	for _, ext := range []string{".index", ".timeindex"} {
		name := "p/" + strings.Repeat("0", 20) + ext
		good, err := readFile(fsys, name)
		must(t, err)
		for at := range good {
			rot(t, fsys, name, int64(at))
			if got := readAll(t, l, 0); !slices.Equal(got, want) {
				t.Fatalf("%s, byte %d: %d records", ext, at, len(got))
			}
			must(t, frame.WriteFile(fsys, name, good))
		}
		rot(t, fsys, name, 3)
		age += quiet
		scrubAll(t, l)
		if b, err := readFile(fsys, name); err != nil || !bytes.Equal(b, good) {
			t.Errorf("%s was not made anew: %v", ext, err)
		}
	}
	l.Close()
}

// TestIndexWithCheckpoints: checkpoints and restarts in the middle of a
// segment leave their entries in its time index, which is no reason to warn.
// Every byte that is wrong is one.
func TestIndexWithCheckpoints(t *testing.T) {
	age := int64(1)
	var told bytes.Buffer
	fsys := vfs.NewCrashable(1)
	opts := store.Options{
		Settings: store.Settings{SegmentBytes: 40_000}, Age: func() int64 { return age },
		Log: slog.New(slog.NewTextHandler(&told, nil)),
	}
	l := open(t, fsys, opts)
	for i := range 100 {
		putDurable(t, l, spec{values: []string{strings.Repeat("x", 500)}, ms: int64(i - i%3*10)})
		switch {
		case i%10 == 4:
			must(t, l.Save())
		case i%10 == 9:
			must(t, l.Close())
			l = open(t, fsys, opts)
		}
	}
	age += quiet
	if scrubAll(t, l); told.Len() > 0 {
		t.Errorf("scrubbing a whole log warns:\n%s", &told)
	}
	for _, ext := range []string{".index", ".timeindex"} {
		name := "p/" + strings.Repeat("0", 20) + ext
		good, err := readFile(fsys, name)
		must(t, err)
		for at := range good {
			told.Reset()
			rot(t, fsys, name, int64(at))
			if scrubAll(t, l); !strings.Contains(told.String(), name) {
				t.Errorf("%s, byte %d: nobody warns", ext, at)
			}
			must(t, frame.WriteFile(fsys, name, good))
		}
		must(t, frame.WriteFile(fsys, name, good[:len(good)/24*12]))
		if scrubAll(t, l); !strings.Contains(told.String(), name) {
			t.Errorf("%s, half of it: nobody warns", ext)
		}
	}
	must(t, l.Close())
}

// TestCompactionMeetsDamage: it never gives damaged records a good checksum.
func TestCompactionMeetsDamage(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 700, Compaction: compacted}})
	for i := range 20 {
		a, err := put(l, kbatch(t, spec{}, 0, krec{fmt.Sprint("k", i%15), fmt.Sprintf("%070d", i)}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
	rot(t, fsys, "p/00000000000000000000.log", 3*161) // within the batch at 2 or 3
	if _, err := l.Compact(ctx(t), noPace); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("compaction of a damaged segment: got %v, want ErrCorrupt", err)
	}
	must(t, l.ScrubSuspect(ctx(t), noPace))
	if n := len(l.Stats().Damaged); n != 1 {
		t.Fatalf("%d damaged places, want 1", n)
	}
	lost := l.Stats().Damaged[0].From
	compact(t, l)
	var keys []string
	for _, r := range consume(t, l) {
		keys = append(keys, r.key)
	}
	want := []string{}
	for i := range 20 {
		if k := fmt.Sprint("k", i); i < 15 && int64(i) != lost {
			want = append(want, k)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	slices.Sort(want)
	if lost >= 5 || !slices.Equal(keys, want) && !slices.Contains(keys, fmt.Sprint("k", lost)) {
		t.Errorf("lost %d, keys %v, want %v", lost, keys, want)
	}
	must(t, l.Close())
}
