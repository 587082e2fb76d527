package store_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

const transactional = 0x10

// inTxn describes a transactional batch of one record.
func inTxn(pid int64, epoch int16, seq int32, value string) spec {
	return spec{values: []string{value}, pid: pid, epoch: epoch, seq: seq, attrs: transactional}
}

// mark ends a transaction, durably.
func mark(t *testing.T, l *store.Log, pid int64, epoch int16, commit bool) store.Appended {
	t.Helper()
	a, err := l.AppendMarker(pid, epoch, commit, 3)
	must(t, err)
	must(t, l.Wait(ctx(t), a.Next))
	return a
}

// committed reads as a consumer of isolation level read_committed does, from
// offset on: by the aborted list of each fetch and the markers in it.
func committed(t *testing.T, l *store.Log, offset int64) []string {
	t.Helper()
	var out []string
	for {
		s, err := l.ReadCommitted(offset, 900, true)
		must(t, err)
		if s == nil {
			return out
		}
		b := make([]byte, s.Len())
		must(t, s.ReadAt(b, 0))
		s.Release()
		var batches [][]byte
		next := offset
		for {
			h, err := store.ParseHeader(b)
			if err != nil || h.Size() > int64(len(b)) {
				break
			}
			batches, b, next = append(batches, b[:h.Size()]), b[h.Size():], h.LastOffset()+1
		}
		if _, stable, _ := l.Bounds3(); next > stable {
			t.Fatalf("read from %d to %d, last stable offset is %d", offset, next, stable)
		}
		aborted, err := l.Aborted(offset, next)
		must(t, err)
		slices.SortFunc(aborted, func(a, b store.AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
		out = append(out, visible(t, batches, aborted, offset)...)
		offset = next
	}
}

func visible(t *testing.T, batches [][]byte, aborted []store.AbortedTxn, offset int64) []string {
	var out []string
	dropping := map[int64]bool{}
	for _, b := range batches {
		h, err := store.ParseHeader(b)
		must(t, err)
		for len(aborted) > 0 && aborted[0].FirstOffset <= h.LastOffset() {
			dropping[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		switch control := h.Attributes&0x20 != 0; {
		case control:
			if b[len(b)-12] == 0 { // type, see newMarker
				delete(dropping, h.ProducerID)
			}
		case h.Transactional() && dropping[h.ProducerID]:
		default:
			out = append(out, values(t, b)[max(0, offset-h.BaseOffset):]...)
		}
	}
	return out
}

func inOpenTxn(l *store.Log, pid int64) bool {
	_, open := l.OpenTxn(pid)
	return open
}

func wantBounds(t *testing.T, what string, l *store.Log, stable, hw int64) {
	t.Helper()
	if _, s, h := l.Bounds3(); s != stable || h != hw {
		t.Errorf("%s: last stable offset %d, high watermark %d, want %d and %d", what, s, h, stable, hw)
	}
}

func TestTransaction(t *testing.T) {
	l := open(t, vfs.NewCrashable(1), store.Options{})
	defer l.Close()
	putDurable(t, l, spec{values: []string{"plain"}})
	putDurable(t, l, inTxn(7, 0, 0, "a"))
	putDurable(t, l, inTxn(8, 0, 0, "b"))
	putDurable(t, l, spec{values: []string{"plain2"}})
	wantBounds(t, "two open", l, 1, 4)
	if !inOpenTxn(l, 7) || inOpenTxn(l, 9) {
		t.Error("OpenTxn: want true for 7, false for 9")
	}
	mark(t, l, 7, 0, true) // 4
	wantBounds(t, "first ended", l, 2, 5)
	if got := committed(t, l, 0); !gocmp.Equal(got, []string{"plain", "a"}) {
		t.Errorf("first ended: %q", got)
	}
	mark(t, l, 8, 0, false) // 5
	wantBounds(t, "both ended", l, 6, 6)
	if got := committed(t, l, 0); !gocmp.Equal(got, []string{"plain", "a", "plain2"}) {
		t.Errorf("both ended: %q", got)
	}
	got, err := l.Aborted(0, 6)
	must(t, err)
	if diff := gocmp.Diff([]store.AbortedTxn{{ProducerID: 8, FirstOffset: 2, LastOffset: 5, LastStable: 6}}, got); diff != "" {
		t.Errorf("aborted (-want +got):\n%s", diff)
	}
	for _, none := range [][2]int64{{0, 2}, {6, 7}} {
		if got, err := l.Aborted(none[0], none[1]); len(got) > 0 || err != nil {
			t.Errorf("aborted in %v: %v, %v, want none", none, got, err)
		}
	}
	want := []store.ProducerState{
		{ID: 7, LastSequence: 0, CoordinatorEpoch: 3, TxnStart: -1},
		{ID: 8, LastSequence: 0, CoordinatorEpoch: 3, TxnStart: -1},
	}
	ps := l.Producers()
	for i := range ps {
		ps[i].LastMs = 0
	}
	if diff := gocmp.Diff(want, ps); diff != "" {
		t.Errorf("producers (-want +got):\n%s", diff)
	}
}

// TestMarkerBytes holds the control batch to Kafka's layout (KIP-98).
func TestMarkerBytes(t *testing.T) {
	l := open(t, vfs.NewCrashable(1), store.Options{Epoch: 5, Now: func() time.Time { return time.UnixMilli(9999) }})
	defer l.Close()
	for i, commit := range []bool{false, true} {
		mark(t, l, 7, 2, commit)
		s, err := l.Read(int64(i), 1000, true)
		must(t, err)
		b := make([]byte, s.Len())
		must(t, s.ReadAt(b, 0))
		s.Release()
		h, err := store.ParseHeader(b)
		must(t, err)
		want := store.Header{
			BaseOffset: int64(i), Length: int32(len(b) - 12), LeaderEpoch: 5, Magic: 2, CRC: h.CRC, Attributes: 0x30,
			FirstTimestamp: 9999, MaxTimestamp: 9999, ProducerID: 7, ProducerEpoch: 2, BaseSequence: -1, Records: 1,
		}
		if diff := gocmp.Diff(want, h); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		if crc := binary.BigEndian.Uint32(seal(slices.Clone(b))[17:]); crc != h.CRC {
			t.Errorf("checksum %x, want %x", h.CRC, crc)
		}
		rec := []byte{32, 0, 0, 0, 8, 0, 0, 0, byte(i), 12, 0, 0, 0, 0, 0, 3, 0}
		if diff := gocmp.Diff(rec, b[61:]); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	}
}

// TestFencing: epochs and sequences as Kafka has them.
func TestFencing(t *testing.T) {
	type step struct {
		do   any // spec, or a marker
		want error
	}
	type marker struct {
		epoch  int16
		commit bool
		coord  int32
	}
	tests := map[string][]step{
		"same epoch goes on after its marker": {
			{inTxn(7, 0, 0, "a"), nil}, {marker{0, true, 1}, nil}, {inTxn(7, 0, 1, "b"), nil}, {inTxn(7, 0, 3, "b"), store.ErrOutOfOrder},
		},
		"a marker of the next epoch fences the one before (KIP-890)": {
			{inTxn(7, 0, 0, "a"), nil}, {marker{1, true, 1}, nil},
			{inTxn(7, 0, 1, "late"), store.ErrProducerEpoch}, {marker{0, false, 1}, store.ErrProducerEpoch},
			{inTxn(7, 1, 1, "b"), store.ErrOutOfOrder}, {inTxn(7, 1, 0, "b"), nil}, {inTxn(7, 1, 1, "c"), nil},
		},
		"a marker is taken again": {
			{inTxn(7, 0, 0, "a"), nil}, {marker{1, false, 1}, nil}, {marker{1, false, 1}, nil}, {marker{1, false, 2}, nil},
		},
		"an old coordinator is refused": {
			{inTxn(7, 0, 0, "a"), nil}, {marker{0, true, 4}, nil}, {marker{0, true, 3}, store.ErrCoordinatorEpoch},
		},
		"an unknown producer's marker begins its epoch": {
			{marker{3, false, 1}, nil}, {inTxn(7, 2, 0, "a"), store.ErrProducerEpoch}, {inTxn(7, 3, 4, "a"), store.ErrOutOfOrder}, {inTxn(7, 3, 0, "a"), nil},
		},
		"a new epoch's data": {
			{inTxn(7, 0, 0, "a"), nil}, {inTxn(7, 1, 2, "b"), store.ErrOutOfOrder}, {inTxn(7, 1, 0, "b"), nil}, {inTxn(7, 0, 1, "c"), store.ErrProducerEpoch},
		},
		"not transactional within a transaction": {
			{inTxn(7, 0, 0, "a"), nil}, {spec{values: []string{"b"}, pid: 7, seq: 1}, store.ErrTransaction}, {marker{0, true, 1}, nil},
			{spec{values: []string{"b"}, pid: 7, seq: 1}, nil},
		},
		"transactional without a producer": {
			{spec{values: []string{"b"}, attrs: transactional}, store.ErrInvalid},
		},
	}
	for name, steps := range tests {
		for _, restart := range []bool{false, true} { // the state comes back from the disk
			fsys := vfs.NewCrashable(1)
			l := open(t, fsys, store.Options{})
			for i, s := range steps {
				var err error
				switch do := s.do.(type) {
				case spec:
					_, err = put(l, batch(do))
				case marker:
					_, err = l.AppendMarker(7, do.epoch, do.commit, do.coord)
				}
				if !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
					t.Errorf("%s: step %d: got %v, want %v", name, i, err, s.want)
				}
				if restart {
					must(t, l.Close())
					l = open(t, fsys, store.Options{})
				}
			}
			l.Close()
		}
	}
}

// TestStableWaitsForMarker: as long as the marker is not durable, a crash may
// take it back.
func TestStableWaitsForMarker(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	defer l.Close()
	putDurable(t, l, inTxn(7, 0, 0, "a"))
	gate := make(chan struct{})
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, ".log") {
			<-gate
		}
		return nil
	})
	watch := make(watcher, 1)
	l.Watch(watch)
	defer l.Unwatch(watch)
	a, err := l.AppendMarker(7, 0, true, 1)
	must(t, err)
	if inOpenTxn(l, 7) {
		t.Error("the transaction is still open")
	}
	wantBounds(t, "marker not durable", l, 0, 1)
	close(gate)
	must(t, l.Wait(ctx(t), a.Next))
	select {
	case <-watch:
	case <-ctx(t).Done():
		t.Error("watchers were not told that the last stable offset moved")
	}
	wantBounds(t, "marker durable", l, 2, 2)
}

type watcher chan struct{}

func (w watcher) Changed() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// TestOpenTransactionSurvives whatever happens to the log.
func TestOpenTransactionSurvives(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 1000}, Now: func() time.Time { return now }}
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, opts)
	putDurable(t, l, inTxn(7, 4, 0, "open"))
	putDurable(t, l, spec{values: []string{"x"}, pid: 9}) // idempotent, not transactional
	reopen := map[string]func(){
		"clean stop": func() { must(t, l.Close()); l = open(t, fsys, opts) },
		"power cut":  func() { fsys = fsys.Crash(); l.Close(); l = open(t, fsys, opts) },
		"roll": func() {
			for n := l.Stats().Segments; l.Stats().Segments == n; {
				putDurable(t, l, spec{values: []string{strings.Repeat("x", 100)}})
			}
		},
		"clock jumps ahead": func() { now = now.Add(1000 * time.Hour); must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1})) },
		"clock set back":    func() { now = now.Add(-900 * time.Hour); must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1})) },
		"retention":         func() { must(t, l.Retain(store.Retention{Bytes: 0, Ms: -1})) },
		"delete records":    func() { _, hw := l.Bounds(); must(t, l.Trim(hw)) },
		"many producers": func() {
			for i := range 1500 {
				if _, err := put(l, batch(spec{values: []string{"x"}, pid: int64(1000 + i)})); err != nil {
					t.Fatal(err)
				}
			}
			must(t, l.Wait(ctx(t), l.Stats().End))
		},
	}
	check := func(what string) {
		t.Helper()
		start, stable, _ := l.Bounds3()
		if !inOpenTxn(l, 7) || stable != start {
			t.Errorf("%s: transaction open: %v, last stable offset %d, log start %d", what, inOpenTxn(l, 7), stable, start)
		}
		if what != "many producers" {
			if a, err := put(l, batch(spec{values: []string{"x"}, pid: 9})); err != nil || !a.Duplicate {
				t.Errorf("%s: the idempotent producer is forgotten: %+v, %v", what, a, err)
			}
		}
	}
	for _, what := range []string{
		"clean stop", "power cut", "roll", "power cut", "clock jumps ahead", "clock set back", "clock jumps ahead", "clean stop",
		"retention", "power cut", "delete records", "clean stop", "many producers",
	} {
		reopen[what]()
		check(what)
	}
	for range 48 { // days that were lived, not jumped
		now = now.Add(time.Hour)
		must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
	}
	if ps := l.Producers(); len(ps) != 1 || ps[0].TxnStart != 0 || ps[0].Epoch != 4 {
		t.Errorf("after two days: producers %+v, want only the one with a transaction", ps)
	}
	mark(t, l, 7, 4, false)
	if _, stable, hw := l.Bounds3(); stable != hw {
		t.Errorf("after the marker: last stable offset %d, high watermark %d", stable, hw)
	}
	must(t, l.Close())
}

// TestOlderReleaseRefuses: one that knows no transactions must not open a log
// that has them, and may open one that never had.
func TestOlderReleaseRefuses(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	version := func() byte {
		f, err := fsys.Open("p/checkpoint")
		must(t, err)
		defer f.Close()
		b := make([]byte, 9)
		_, err = f.ReadAt(b, 0)
		must(t, err)
		return b[8]
	}
	putDurable(t, l, spec{values: []string{"a"}})
	must(t, l.Close())
	if v := version(); v != 1 {
		t.Errorf("checkpoint version %d without transactions, want 1", v)
	}
	l = open(t, fsys, store.Options{})
	_, err := put(l, batch(inTxn(7, 0, 0, "a")))
	must(t, err)
	if v := version(); v != 2 {
		t.Errorf("checkpoint version %d when the first transactional batch is written, want 2", v)
	}
	l.Close()
}

// TestDamagedTxnIndex: what says which records are aborted is not guessed.
func TestDamagedTxnIndex(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 300}}
	l := open(t, fsys, opts)
	putDurable(t, l, inTxn(7, 0, 0, "a"))
	mark(t, l, 7, 0, false)
	putDurable(t, l, spec{values: []string{strings.Repeat("x", 200)}}) // rolls
	putDurable(t, l, inTxn(7, 0, 1, "b"))                              // in the active segment
	mark(t, l, 7, 0, false)
	want := committed(t, l, 0)
	must(t, l.Close())
	names, err := fsys.ReadDir("p")
	must(t, err)
	var indexes []string
	for _, n := range names {
		if strings.HasSuffix(n.Name(), ".txnindex") {
			indexes = append(indexes, "p/"+n.Name())
		}
	}
	if len(indexes) != 2 {
		t.Fatalf("transaction indexes: %v, want two", indexes)
	}
	damage := func(fsys *vfs.Crashable, name string) {
		f, err := fsys.Open(name)
		must(t, err)
		defer f.Close()
		must(t, f.Truncate(20))
	}
	active := fsys.CrashClone()
	damage(active, indexes[1])
	l = open(t, active, opts)
	if diff := gocmp.Diff(want, committed(t, l, 0)); diff != "" {
		t.Errorf("damaged index of the last segment: read anew (-want +got):\n%s", diff)
	}
	must(t, l.Close())
	damage(fsys, indexes[0])
	l = open(t, fsys, opts)
	defer l.Close()
	var ce *store.CorruptError
	if _, err := l.Aborted(0, 2); !errors.Is(err, store.ErrCorrupt) || !errors.As(err, &ce) || ce.File != indexes[0] {
		t.Errorf("damaged index of a sealed segment: got %v, want ErrCorrupt in %s", err, indexes[0])
	}
}
