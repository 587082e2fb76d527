package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// checkTimes looks up every record that is left by its timestamp.
func checkTimes(t *testing.T, l *store.Log, what string, timeAt func(offset int64) int64) {
	t.Helper()
	left := consume(t, l)
	at := func(r read1) int64 { return timeAt(r.offset) }
	newest := left[0]
	for _, r := range left {
		if at(r) > at(newest) {
			newest = r
		}
		first := left[slices.IndexFunc(left, func(o read1) bool { return at(o) >= at(r) })]
		if got, ok, err := l.OffsetForTime(at(r)); !ok || err != nil || got.Offset != first.offset {
			t.Fatalf("%s: time %d: got %+v, %v, %v, want offset %d", what, at(r), got, ok, err, first.offset)
		}
	}
	if got, ok, err := l.OffsetForMaxTimestamp(); !ok || err != nil || got.Offset != newest.offset {
		t.Fatalf("%s: largest timestamp: got %+v, %v, %v, want offset %d", what, got, ok, err, newest.offset)
	}
}

// cutDuring returns what the disk would hold had the power gone at any of the
// operations of do, or after it: several times each.
func cutDuring(fsys *vfs.Crashable, do func()) (cuts []*vfs.Crashable) {
	var mu sync.Mutex
	fsys.SetHook(func(op vfs.Op, _ string) error {
		if op == vfs.OpRead || op == vfs.OpOpen {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		for range 6 {
			cuts = append(cuts, fsys.CrashClone())
		}
		return nil
	})
	do()
	fsys.SetHook(nil)
	return append(cuts, fsys.CrashClone())
}

// TestCompactionOfDamageCrash: what was known of damage in a segment is not
// believed of the one that has taken its place.
func TestCompactionOfDamageCrash(t *testing.T) {
	fsys := vfs.NewCrashable(4)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 700, Compaction: compacted}}
	l := open(t, fsys, opts)
	for i := range 20 {
		key := fmt.Sprint("k", i%12)
		if i >= 16 {
			key = fmt.Sprint("last", i)
		}
		a, err := put(l, kbatch(t, spec{}, 0, krec{key, fmt.Sprintf("%070d", i)}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
	rot(t, fsys, "p/00000000000000000000.log", 100)
	if _, err := l.Compact(ctx(t), noPace); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("compaction of a damaged segment: got %v, want ErrCorrupt", err)
	}
	must(t, l.ScrubSuspect(ctx(t), noPace))
	want := keysOf(t, l)
	cuts := cutDuring(fsys, func() { compact(t, l) })
	must(t, l.Close())
	for i, cut := range cuts {
		l := open(t, cut, opts)
		if diff := cmp.Diff(want, keysOf(t, l)); diff != "" {
			t.Fatalf("cut %d of %d (-want +got):\n%s", i, len(cuts), diff)
		}
		must(t, l.Close())
	}
}

// TestCompactionOfUnreadable: a topic that was not compacted has taken batches
// that no consumer can read. They do not stand for what came before.
func TestCompactionOfUnreadable(t *testing.T) {
	many := []krec{{"k", "new"}}
	for i := range 5000 {
		many = append(many, krec{fmt.Sprint("other", i), "x"})
	}
	for _, tt := range []struct {
		name string
		bad  func(codec int) []byte
	}{
		{"a record is missing", func(codec int) []byte {
			return claim(kbatch(t, spec{}, codec, krec{"k", "new"}, krec{"l", "new"}), 3)
		}},
		{"one of many records is missing", func(codec int) []byte {
			return claim(kbatch(t, spec{}, codec, many...), len(many)+1)
		}},
		{"an offset is behind the batch", func(codec int) []byte {
			b := kbatch(t, spec{}, 0, krec{"n", "new"})
			recs := slices.Clone(b[61:])
			recs[3] = 126 // offset delta 63
			recs, _ = compressor(t, codec).Compress(new(bytes.Buffer), recs)
			return withRecords(b, recs, codec)
		}},
	} {
		for codec := 1; codec < len(codecs); codec++ {
			l := open(t, vfs.NewCrashable(1), store.Options{Settings: store.Settings{SegmentBytes: 200}})
			for _, b := range [][]byte{
				kbatch(t, spec{}, codec, krec{"k", "old"}), tt.bad(codec), kbatch(t, spec{}, codec, krec{"m", strings.Repeat("v", 200)}),
				kbatch(t, spec{}, codec, krec{"n", "newest"}), kbatch(t, spec{}, 0, krec{"p", strings.Repeat("v", 200)}), kbatch(t, spec{}, 0, krec{"o", strings.Repeat("v", 200)}),
			} {
				a, err := put(l, b)
				must(t, err)
				must(t, l.Wait(ctx(t), a.Next))
			}
			l.Configure(store.Settings{SegmentBytes: 200, Compaction: compacted})
			newest := l.Stats().End - 3
			done := compact(t, l)
			if done.Passes == 0 || done.Unreadable != 1 {
				t.Errorf("%s, %s: %+v, want one unreadable batch", tt.name, codecs[codec].name, done)
			}
			if h, _, ok := batchAt(t, l, newest); !ok || h.BaseOffset != newest || h.Records != 1 {
				t.Errorf("%s, %s: the newest record is gone", tt.name, codecs[codec].name)
			}
			if h, _, ok := batchAt(t, l, 0); !ok || h.BaseOffset != 0 || h.Records != 1 {
				t.Errorf("%s, %s: the older record is gone", tt.name, codecs[codec].name)
			}
			must(t, l.Close())
		}
	}
}

// claim lets a batch say that it has n records.
func claim(b []byte, n int) []byte {
	b = slices.Clone(b)
	binary.BigEndian.PutUint32(b[23:], uint32(n-1))
	binary.BigEndian.PutUint32(b[57:], uint32(n))
	return seal(b)
}

// TestCompactionCrash takes the power away at every operation of a compaction
// that rewrites and merges, several times each.
func TestCompactionCrash(t *testing.T) {
	for _, step := range []int64{-10, 10} { // what stays is older, or younger, than what goes
		compactionCrash(t, step)
	}
}

func compactionCrash(t *testing.T, step int64) {
	timeAt := func(offset int64) int64 { return 5000 + step*(offset/2) + offset%2 }
	fsys := vfs.NewCrashable(3)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 900, Compaction: compacted}}
	l := open(t, fsys, opts)
	want := map[string]string{}
	for i := range 40 {
		k, v := fmt.Sprintf("k%d", i%7), fmt.Sprintf("v%d", i)
		a, err := put(l, kbatch(t, spec{pid: 9, seq: int32(2 * i), ms: timeAt(2 * int64(i))}, i%5, krec{k, v}, krec{"same", v}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
		want[k], want["same"] = v, v
	}
	segments := l.Stats().Segments
	var done store.Compacted
	cuts := cutDuring(fsys, func() { done = compact(t, l) })
	if n := l.Stats().Segments; n >= segments || done.Freed <= 0 || done.Passes != 1 {
		t.Fatalf("%d segments of %d left, %+v: the test shows too little", n, segments, done)
	}
	must(t, l.Close())
	sizes := map[int64]int{}
	for i, cut := range cuts {
		l := open(t, cut, opts)
		check := func(what string) {
			t.Helper()
			have := map[string]string{}
			for _, rec := range consume(t, l) {
				have[rec.key] = rec.value
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Fatalf("cut %d of %d, %s (-want +got):\n%s", i, len(cuts), what, diff)
			}
			if s := l.Stats(); s.End != 80 || len(s.Damaged) > 0 {
				t.Fatalf("cut %d, %s: log ends at %d, damage %v", i, what, s.End, s.Damaged)
			}
			checkTimes(t, l, fmt.Sprintf("cut %d, %s", i, what), timeAt)
		}
		check("after the cut")
		compact(t, l)
		check("compacted again")
		sizes[l.Stats().Bytes]++
		must(t, l.Close())
		left, err := cut.ReadDir("p")
		must(t, err)
		for _, e := range left {
			if strings.Contains(e.Name(), "cleaned") || e.Name() == "swap" || strings.HasSuffix(e.Name(), ".tmp") {
				t.Fatalf("cut %d: %s is left", i, e.Name())
			}
		}
	}
	if len(sizes) != 1 {
		t.Errorf("logs of %v bytes, want all alike", sizes)
	}
}
