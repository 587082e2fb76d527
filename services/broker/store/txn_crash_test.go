package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// TestTransactionCrash cuts the power at random instants under transactional
// producers. Each acknowledged outcome stands, each transaction is whole or
// not there for a committed reader, and what the log says of transactions is
// what its batches say.
func TestTransactionCrash(t *testing.T) {
	checked := 0
	for seed := range uint64(100) {
		r := &txnCrash{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), ended: map[string]bool{}, size: map[string]int{}}
		fsys := vfs.NewCrashable(seed)
		for round := range 4 {
			fsys = r.round(fsys, round)
		}
		checked += r.checked
	}
	if checked < 1000 {
		t.Errorf("only %d acknowledged outcomes were looked for", checked)
	}
}

type txnCrash struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand

	mu    sync.Mutex
	ended map[string]bool // transaction -> committed, once that is acknowledged
	size  map[string]int  // transaction -> its batches

	checked int
}

func (r *txnCrash) round(fsys *vfs.Crashable, round int) *vfs.Crashable {
	l := open(r.t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 2500}, Epoch: int32(round)})
	r.verify(l, round)
	r.endSome(l)
	r.verify(l, round)
	cutAt := int64(r.rng.IntN(80))
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
		rng := rand.New(rand.NewPCG(r.seed, uint64(10*round+p)))
		wg.Go(func() { r.produce(l, rng, int64(10*round+p+1)) })
	}
	<-cut
	after := fsys.Crash()
	wg.Wait()
	l.Close()
	return after
}

// produce runs transactions until the file system is gone.
func (r *txnCrash) produce(l *store.Log, rng *rand.Rand, pid int64) {
	seq := int32(0)
	for n := range 1000 {
		name, batches, commit := fmt.Sprintf("%d.%d", pid, n), 1+rng.IntN(3), rng.IntN(2) == 0
		r.mu.Lock()
		r.size[name] = batches
		r.mu.Unlock()
		for range batches {
			b := inTxn(pid, 0, seq, name+" "+strings.Repeat("x", rng.IntN(300)))
			if _, err := put(l, batch(b)); err != nil {
				return
			}
			seq++
		}
		a, err := l.AppendMarker(pid, 0, commit, 1)
		if err != nil || l.Wait(r.t.Context(), a.Next) != nil {
			return
		}
		r.mu.Lock()
		r.ended[name] = commit
		r.mu.Unlock()
	}
}

// endSome does what the coordinator does after a crash: in most rounds to all
// transactions that are still open.
func (r *txnCrash) endSome(l *store.Log) {
	all := r.rng.IntN(3) > 0
	for _, p := range l.Producers() {
		if p.TxnStart >= 0 && (all || r.rng.IntN(2) == 0) {
			mark(r.t, l, p.ID, p.Epoch+1, false)
		}
	}
}

func (r *txnCrash) verify(l *store.Log, round int) {
	r.t.Helper()
	fail := func(format string, args ...any) {
		r.t.Helper()
		r.t.Fatalf("seed %d round %d: %s", r.seed, round, fmt.Sprintf(format, args...))
	}
	stable, aborted := replay(r.t, l)
	if _, s, _ := l.Bounds3(); s != stable {
		fail("last stable offset %d, the batches say %d", s, stable)
	}
	got, err := l.Aborted(0, stable)
	must(r.t, err)
	aborted = slices.DeleteFunc(aborted, func(a store.AbortedTxn) bool { return a.FirstOffset >= stable })
	if diff := cmp.Diff(aborted, got, cmpopts.EquateEmpty()); diff != "" {
		fail("aborted transactions (-want +got):\n%s", diff)
	}
	if _, _, hw := l.Bounds3(); stable < hw {
		return // transactions reach beyond what may be read yet
	}
	seen := map[string]int{}
	for _, v := range committed(r.t, l, 0) {
		name, _, _ := strings.Cut(v, " ")
		seen[name]++
	}
	for name, n := range seen {
		if n != r.size[name] {
			fail("transaction %s: %d of %d batches are visible", name, n, r.size[name])
		}
	}
	for name, commit := range r.ended {
		r.checked++
		if _, ok := seen[name]; ok != commit {
			fail("transaction %s: committed %v was acknowledged, visible %v", name, commit, ok)
		}
	}
}

// replay reads every batch and works out what the log should know.
func replay(t *testing.T, l *store.Log) (stable int64, aborted []store.AbortedTxn) {
	open := map[int64]int64{}
	_, hw := l.Bounds()
	for offset := int64(0); offset < hw; {
		h, b := stored(t, l, offset)
		first, isOpen := open[h.ProducerID]
		switch control := h.Attributes&0x20 != 0; {
		case !control && !isOpen:
			open[h.ProducerID] = h.BaseOffset
		case control && isOpen:
			delete(open, h.ProducerID)
			if b[69] == 0 {
				lso := h.BaseOffset + 1
				for _, f := range open {
					lso = min(lso, f)
				}
				aborted = append(aborted, store.AbortedTxn{ProducerID: h.ProducerID, FirstOffset: first, LastOffset: h.BaseOffset, LastStable: lso})
			}
		}
		offset = h.LastOffset() + 1
	}
	stable = hw
	for first := range maps.Values(open) {
		stable = min(stable, first)
	}
	return stable, aborted
}
