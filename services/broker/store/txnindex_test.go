package store_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// TestRollKeepsAborted cuts the power at every step of rolls, of which un-synced
// names survive in any combination: no aborted transaction is forgotten.
func TestRollKeepsAborted(t *testing.T) {
	for seed := range uint64(40) {
		fsys := vfs.NewCrashable(seed)
		opts := store.Options{Settings: store.Settings{SegmentBytes: 600}, Epoch: 1}
		l := open(t, fsys, opts)
		must(t, l.Close()) // leaves index files that a roll replaces
		l = open(t, fsys, opts)
		var mu sync.Mutex
		var cuts []*vfs.Crashable
		for pid := range int64(3) {
			putDurable(t, l, inTxn(pid+1, 0, 0, strings.Repeat("x", 300)))
			mark(t, l, pid+1, 0, false)
			fsys.SetHook(func(vfs.Op, string) error {
				mu.Lock()
				defer mu.Unlock()
				cuts = append(cuts, fsys.CrashClone())
				return nil
			})
			putDurable(t, l, spec{values: []string{strings.Repeat("y", 300)}}) // rolls
			fsys.SetHook(nil)
		}
		for i, cut := range cuts {
			after := open(t, cut, opts)
			_, stable, _ := after.Bounds3()
			_, want := replay(t, after)
			got, err := after.Aborted(0, stable)
			must(t, err)
			if len(got) != len(want) {
				t.Fatalf("seed %d, cut %d of %d: aborted transactions %v, the batches say %v", seed, i, len(cuts), got, want)
			}
			after.Close()
		}
		l.Close()
	}
}

// TestTimeIndexOfAnEarlierStop: the names of a checkpoint and of the index that
// belongs to it reach the disk in any combination; no timestamp is forgotten.
func TestTimeIndexOfAnEarlierStop(t *testing.T) {
	for seed := range uint64(60) {
		fsys := vfs.NewCrashable(seed)
		l := open(t, fsys, store.Options{})
		putDurable(t, l, spec{values: []string{"a"}, ms: 10})
		must(t, l.Close())
		l = open(t, fsys, store.Options{})
		putDurable(t, l, spec{values: []string{"b"}, ms: 20})
		var mu sync.Mutex
		var cuts []*vfs.Crashable
		fsys.SetHook(func(vfs.Op, string) error {
			mu.Lock()
			defer mu.Unlock()
			cuts = append(cuts, fsys.CrashClone())
			return nil
		})
		must(t, l.Save())
		fsys.SetHook(nil)
		for i, cut := range cuts {
			after := open(t, cut, store.Options{})
			if got, ok, err := after.OffsetForTime(15); !ok || err != nil || got.Offset != 1 {
				t.Fatalf("seed %d, cut %d of %d: got %+v, %v, %v, want offset 1", seed, i, len(cuts), got, ok, err)
			}
			after.Close()
		}
		l.Close()
	}
}
