package store_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// TestCrash cuts the power at random instants under several producers. What
// was acknowledged is there, at the offset that was told, in order; what is
// there besides was sent; and the log takes more.
func TestCrash(t *testing.T) {
	for seed := range uint64(150) {
		r := &crashRun{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), acked: map[int64]string{}}
		fsys := vfs.NewCrashable(seed)
		for round := range 4 {
			fsys = r.round(fsys, round)
		}
	}
}

type crashRun struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand

	mu    sync.Mutex
	acked map[int64]string
}

func (r *crashRun) round(fsys *vfs.Crashable, round int) *vfs.Crashable {
	l := open(r.t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 3000}, Epoch: int32(round)})
	r.verify(l, round)
	cutAt := int64(r.rng.IntN(60)) // operations until the plug is pulled
	cut := make(chan struct{})
	var once sync.Once
	var ops int64
	var mu sync.Mutex
	fsys.SetHook(func(op vfs.Op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		if ops++; ops > cutAt && op != vfs.OpRead {
			once.Do(func() { close(cut) })
		}
		return nil
	})
	var wg sync.WaitGroup
	for p := range 3 {
		size := r.rng.IntN(600)
		wg.Go(func() { r.produce(l, fmt.Sprintf("s%d.r%d.p%d.", r.seed, round, p), size) })
	}
	<-cut
	after := fsys.Crash()
	wg.Wait()
	l.Close()
	return after
}

// produce appends until the file system is gone.
func (r *crashRun) produce(l *store.Log, prefix string, size int) {
	for i := range 1000 {
		value := fmt.Sprintf("%s%d.%s", prefix, i, strings.Repeat("x", size))
		a, err := put(l, batch(spec{values: []string{value, value + "b"}, ms: int64(i)}))
		if err != nil {
			return
		}
		if i%3 == 2 && l.Wait(r.t.Context(), a.Next) != nil {
			return
		}
		if i%3 == 2 {
			r.mu.Lock()
			r.acked[a.Base] = value
			r.mu.Unlock()
		}
	}
}

func (r *crashRun) verify(l *store.Log, round int) {
	r.t.Helper()
	got := readAll(r.t, l, 0)
	if s := l.Stats(); s.End != int64(len(got)) || s.HighWatermark != s.End {
		r.t.Fatalf("seed %d round %d: %d records, log ends at %d, high watermark %d", r.seed, round, len(got), s.End, s.HighWatermark)
	}
	for off, want := range r.acked {
		if off >= int64(len(got)) || got[off] != want {
			r.t.Fatalf("seed %d round %d: acknowledged record at offset %d is gone (log ends at %d)", r.seed, round, off, len(got))
		}
	}
	next := map[string]int{}
	for i := 0; i < len(got); i += 2 {
		if got[i+1] != got[i]+"b" {
			r.t.Fatalf("seed %d round %d: offset %d: a batch was split", r.seed, round, i)
		}
		var seed, rnd, p, n int
		if _, err := fmt.Sscanf(got[i], "s%d.r%d.p%d.%d.", &seed, &rnd, &p, &n); err != nil {
			r.t.Fatalf("seed %d round %d: offset %d holds %.40q: %v", r.seed, round, i, got[i], err)
		}
		key := fmt.Sprint(rnd, p)
		if n != next[key] {
			r.t.Fatalf("seed %d round %d: producer %s: record %d at offset %d, want %d", r.seed, round, key, n, i, next[key])
		}
		next[key]++
	}
}

// TestKillThenPowerCut: a killed broker leaves records in the page cache. The
// next start serves them, so it must have made them durable.
func TestKillThenPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		fsys := vfs.NewCrashable(seed)
		l := open(t, fsys, store.Options{})
		putDurable(t, l, spec{values: []string{"a"}})
		gate := make(chan struct{})
		fsys.SetHook(func(op vfs.Op, _ string) error {
			if op == vfs.OpSync {
				<-gate // the kill comes before this sync
				return vfs.ErrCrashed
			}
			return nil
		})
		if _, err := put(l, batch(spec{values: []string{"b"}})); err != nil {
			t.Fatal(err)
		}
		close(gate)
		l.Close()
		fsys.SetHook(nil)
		l = open(t, fsys, store.Options{})
		if got := readAll(t, l, 0); len(got) != 2 {
			t.Fatalf("seed %d: %d records after the kill, want 2", seed, len(got))
		}
		l = open(t, fsys.Crash(), store.Options{})
		if got := readAll(t, l, 0); len(got) != 2 {
			t.Fatalf("seed %d: a record was served and then lost: %v", seed, got)
		}
		l.Close()
	}
}
