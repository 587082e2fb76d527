package store_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// putKeys appends n durable records: every second has the same key.
func putKeys(t *testing.T, l *store.Log, n int) {
	t.Helper()
	for i := range n {
		key := "same"
		if i%2 == 1 {
			key = string(rune('A' + i))
		}
		a, err := put(l, kbatch(t, spec{}, 0, krec{key, strings.Repeat("v", 40)}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
}

func keysOf(t *testing.T, l *store.Log) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for _, r := range consume(t, l) {
		keys[r.key] = true
	}
	return keys
}

// A swap that fails half-way may be in force at the next start: what it is
// made of must still be there.
func TestFailedSwapKeepsRecords(t *testing.T) {
	for _, fail := range []struct {
		op      vfs.Op
		pattern string
	}{{vfs.OpSyncDir, "p"}, {vfs.OpRename, "p/*/*"}} {
		for n := 1; n <= 6; n++ {
			fsys := vfs.NewCrashable(1)
			opts := store.Options{Settings: store.Settings{SegmentBytes: 1500, Compaction: compacted}}
			l := open(t, fsys, opts)
			putKeys(t, l, 100)
			before := keysOf(t, l)
			fsys.SetHook(vfs.FailNth(fail.op, fail.pattern, n, syscall.EIO, false))
			l.Compact(ctx(t), noPace) // fails, or was done before
			fsys.SetHook(nil)
			l.Close()
			l = open(t, fsys, opts)
			if got := keysOf(t, l); len(got) != len(before) {
				t.Errorf("%s %d failed: got %d keys after the restart, want %d", fail.op, n, len(got), len(before))
			}
			must(t, l.Close())
		}
	}
}

// Beyond 1,000 producers the longest silent are forgotten, never the one
// whose batch is being taken.
func TestManyIdleTransactionalProducers(t *testing.T) {
	l := open(t, vfs.NewCrashable(1), store.Options{})
	for pid := int64(1); pid <= 1600; pid++ {
		_, err := put(l, batch(inTxn(pid, 0, 0, "v")))
		must(t, err)
		if !inOpenTxn(l, pid) {
			t.Fatalf("producer %d has no open transaction after its first batch", pid)
		}
		_, err = l.AppendMarker(pid, 1, false, 3)
		must(t, err)
	}
	must(t, l.Close())
}

// A compacted segment has gaps; recovery without a checkpoint must not take
// the first for the end, however little follows.
func TestCompactedWithoutCheckpoint(t *testing.T) {
	fsys, age := vfs.NewCrashable(1), int64(1)
	opts := store.Options{
		Settings: store.Settings{SegmentBytes: 64 << 10, SegmentMs: 1000, Compaction: compacted},
		Age:      func() int64 { return age },
	}
	l := open(t, fsys, opts)
	putKeys(t, l, 100)
	age += 2000
	must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1})) // rolls
	compact(t, l)
	want := len(consume(t, l))
	must(t, l.Close())
	must(t, fsys.Remove("p/checkpoint"))
	l = open(t, fsys, opts)
	if got := len(consume(t, l)); got != want {
		t.Errorf("got %d records without the checkpoint, want %d", got, want)
	}
	must(t, l.Close())
}
