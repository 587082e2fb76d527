package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// TestAbortedModel runs random transactions over many small segments and
// compares what a committed reader sees with what was committed, before and
// after each way of opening the log again.
func TestAbortedModel(t *testing.T) {
	opts := store.Options{Settings: store.Settings{SegmentBytes: 700}}
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 2))
		fsys := vfs.NewCrashable(seed)
		l := open(t, fsys, opts)
		m := newModel()
		for range 150 {
			m.step(t, l, rng)
		}
		for pid := range m.open {
			m.end(t, l, pid, rng.IntN(2) == 0)
		}
		want := m.committed()
		check := func(how string, l *store.Log) {
			t.Helper()
			if diff := gocmp.Diff(want, committed(t, l, 0)); diff != "" {
				t.Fatalf("seed %d, %s (-want +got):\n%s", seed, how, diff)
			}
			for range 30 { // from within
				from := rng.Int64N(l.Stats().End)
				if diff := gocmp.Diff(m.committedFrom(from), committed(t, l, from)); diff != "" {
					t.Fatalf("seed %d, %s, from %d (-want +got):\n%s", seed, how, from, diff)
				}
			}
		}
		check("running", l)
		crashed := fsys.CrashClone()
		must(t, l.Close())
		for how, fs := range map[string]*vfs.Crashable{"clean stop": fsys, "power cut": crashed} {
			l := open(t, fs, opts)
			check(how, l)
			must(t, l.Close())
			must(t, fs.Remove("p/checkpoint"))
			l = open(t, fs, opts)
			check(how+", checkpoint lost", l)
			must(t, l.Close())
		}
	}
}

// model is what the log should hold.
type model struct {
	open map[int64][]int // producer -> its records
	seq  map[int64]int32
	recs []modelRecord
}

type modelRecord struct {
	offset  int64
	value   string
	visible bool
}

func newModel() *model { return &model{open: map[int64][]int{}, seq: map[int64]int32{}} }

func (m *model) step(t *testing.T, l *store.Log, rng *rand.Rand) {
	pid := rng.Int64N(6)
	switch value := fmt.Sprint("v", len(m.recs)); {
	case pid == 0:
		a := putDurable(t, l, spec{values: []string{value}})
		m.recs = append(m.recs, modelRecord{a.Base, value, true})
	case rng.IntN(4) == 0:
		m.end(t, l, pid, rng.IntN(2) == 0)
	default:
		a := putDurable(t, l, inTxn(pid, 0, m.seq[pid], value))
		m.seq[pid]++
		m.open[pid] = append(m.open[pid], len(m.recs))
		m.recs = append(m.recs, modelRecord{a.Base, value, false})
	}
}

func (m *model) end(t *testing.T, l *store.Log, pid int64, commit bool) {
	mark(t, l, pid, 0, commit)
	for _, i := range m.open[pid] {
		m.recs[i].visible = commit
	}
	delete(m.open, pid)
}

func (m *model) committed() []string { return m.committedFrom(0) }

func (m *model) committedFrom(offset int64) []string {
	var out []string
	for _, r := range m.recs {
		if r.visible && r.offset >= offset {
			out = append(out, r.value)
		}
	}
	return out
}
