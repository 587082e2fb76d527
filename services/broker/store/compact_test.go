package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// krec is a record with a key; an empty value is a tombstone.
type krec struct{ key, value string }

// kbatch makes a batch of them, compressed by a client.
func kbatch(t testing.TB, s spec, codec int, recs ...krec) []byte {
	s.values = make([]string, len(recs))
	b := batch(s)[:61]
	var body []byte
	for i, r := range recs {
		rec := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: int32(i), Key: []byte(r.key), Value: []byte(r.value)}
		if r.key == "" {
			rec.Key = nil
		}
		if r.value == "" {
			rec.Value = nil
		}
		rec.Length = int32(len(rec.AppendTo(nil)) - 1)
		if n := len(rec.AppendTo(nil)); n > 65 { // a length of two bytes
			rec.Length = int32(n - 2)
		}
		body = rec.AppendTo(body)
	}
	if codec > 0 {
		body, _ = compressor(t, codec).Compress(new(bytes.Buffer), body)
	}
	return withRecords(b, body, codec)
}

var compressors sync.Map // they are dear to make

func compressor(t testing.TB, codec int) kgo.Compressor {
	if c, ok := compressors.Load(codec); ok {
		return c.(kgo.Compressor)
	}
	c, err := kgo.DefaultCompressor(codecs[codec].kgo)
	if err != nil {
		t.Fatal(err)
	}
	compressors.Store(codec, c)
	return c
}

// read1 is a record as a consumer gets it.
type read1 struct {
	offset int64
	krec
}

// consume reads all records that a read_committed consumer gets, and checks
// every batch as a client does.
func consume(t *testing.T, l *store.Log) []read1 {
	t.Helper()
	var out []read1
	start, stable, _ := l.Bounds3()
	aborted, err := l.Aborted(start, stable)
	must(t, err)
	for offset := start; offset < stable; {
		s, err := l.ReadCommitted(offset, 600, true)
		must(t, err)
		if s == nil {
			break
		}
		b := make([]byte, s.Len())
		must(t, s.ReadAt(b, 0))
		s.Release()
		before := offset
		for {
			h, err := store.ParseHeader(b)
			if err != nil || h.Size() > int64(len(b)) {
				break
			}
			if h.LastOffset() < offset {
				t.Fatalf("read at %d: batch %d to %d comes again", offset, h.BaseOffset, h.LastOffset())
			}
			gone := slices.ContainsFunc(aborted, func(a store.AbortedTxn) bool {
				return h.Transactional() && a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset <= a.LastOffset
			})
			if recs := parse(t, b[:h.Size()]); h.Attributes&0x20 == 0 && !gone {
				out = append(out, recs...)
			}
			offset, b = h.LastOffset()+1, b[h.Size():]
		}
		if offset == before {
			t.Fatalf("read at %d: no whole batch", offset)
		}
	}
	return out
}

// parse reads a stored batch by franz-go's own means.
func parse(t *testing.T, b []byte) []read1 {
	t.Helper()
	h, err := store.ParseHeader(b)
	must(t, err)
	if !bytes.Equal(seal(slices.Clone(b)), b) {
		t.Fatalf("batch at %d: wrong checksum", h.BaseOffset)
	}
	var out []read1
	recs := opened(t, b)[61:]
	for len(recs) > 0 {
		n, w := binary.Varint(recs)
		var r kmsg.Record
		must(t, r.ReadFrom(recs[:w+int(n)]))
		out = append(out, read1{h.BaseOffset + int64(r.OffsetDelta), krec{string(r.Key), string(r.Value)}})
		recs = recs[w+int(n):]
	}
	if len(out) != int(h.Records) {
		t.Fatalf("batch at %d: %d records, header says %d", h.BaseOffset, len(out), h.Records)
	}
	return out
}

func noPace(context.Context, int64) error { return nil }

func compact(t *testing.T, l *store.Log) store.Compacted {
	t.Helper()
	c, err := l.Compact(ctx(t), noPace)
	must(t, err)
	return c
}

var compacted = store.Compaction{Compact: true, DeleteRetentionMs: 1000}

// TestCompaction writes at random, in every codec, with transactions and
// without, compacts, restarts, loses power and checkpoints, and compares with
// a map: every key has its last value, no record is there that something newer
// in the compacted part has replaced, and offsets are what they were.
func TestCompaction(t *testing.T) {
	for seed := range uint64(60) {
		r := &compactRun{t: t, rng: rand.New(rand.NewPCG(seed, 5)), seed: seed}
		r.run()
	}
}

type compactRun struct {
	t     *testing.T
	rng   *rand.Rand
	seed  uint64
	age   int64
	l     *store.Log
	seq   map[int64]int32
	epoch map[int64]int16
	open  map[int64][]read1
	// all are the records by offset that consumers were to see.
	all map[int64]krec
}

func (r *compactRun) options() store.Options {
	return store.Options{
		Settings: store.Settings{SegmentBytes: 1500, Compaction: compacted}, CompactMap: 24 * 20,
		Age: func() int64 { return r.age },
	}
}

func (r *compactRun) run() {
	fsys := vfs.NewCrashable(r.seed)
	r.seq, r.open, r.all = map[int64]int32{}, map[int64][]read1{}, map[int64]krec{}
	r.l = open(r.t, fsys, r.options())
	for range 30 {
		switch r.rng.IntN(10) {
		case 0:
			compact(r.t, r.l)
			r.check(true)
		case 1:
			must(r.t, r.l.Close())
			r.l = open(r.t, fsys, r.options())
		case 2:
			fsys = fsys.Crash()
			r.l.Close()
			if r.rng.IntN(3) == 0 {
				fsys.Remove("p/checkpoint")
			}
			r.l = open(r.t, fsys, r.options())
			r.check(false)
		case 3:
			r.age += r.rng.Int64N(700)
		default:
			for range 10 {
				r.write()
			}
		}
	}
	for pid := range maps.Clone(r.open) {
		r.end(pid, r.rng.IntN(2) == 0)
	}
	compact(r.t, r.l)
	r.check(true)
	must(r.t, r.l.Close())
}

func (r *compactRun) write() {
	pid := int64(r.rng.IntN(6)) // 0: not idempotent; 3 to 5: transactional
	if pid >= 3 && len(r.open[pid]) > 0 && r.rng.IntN(3) == 0 {
		r.end(pid, r.rng.IntN(2) == 0)
		return
	}
	s := spec{pid: pid, seq: r.seq[pid], ms: int64(r.rng.IntN(1000))}
	if pid >= 3 {
		s.attrs = transactional
	}
	recs := make([]krec, 1+r.rng.IntN(5))
	for i := range recs {
		recs[i] = krec{key: fmt.Sprintf("k%d", r.rng.IntN(40)), value: strings.Repeat("v", r.rng.IntN(50))}
	}
	a, err := put(r.l, kbatch(r.t, s, r.rng.IntN(5), recs...))
	must(r.t, err)
	must(r.t, r.l.Wait(ctx(r.t), a.Next))
	r.seq[pid] += int32(len(recs))
	for i, rec := range recs {
		at := read1{a.Base + int64(i), rec}
		if pid >= 3 {
			r.open[pid] = append(r.open[pid], at)
		} else {
			r.all[at.offset] = rec
		}
	}
}

func (r *compactRun) end(pid int64, commit bool) {
	mark(r.t, r.l, pid, 0, commit)
	if commit {
		for _, at := range r.open[pid] {
			r.all[at.offset] = at.krec
		}
	}
	delete(r.open, pid)
}

// check compares what a consumer gets with all that was written. full says
// that everything but the active segment has just been compacted.
func (r *compactRun) check(full bool) {
	r.t.Helper()
	_, stable, _ := r.l.Bounds3()
	got := consume(r.t, r.l)
	have, want := map[string]string{}, map[string]string{}
	newest := map[string]int64{}
	for _, rec := range got {
		if r.all[rec.offset] != rec.krec {
			r.t.Fatalf("seed %d: offset %d holds %+v, written was %+v", r.seed, rec.offset, rec.krec, r.all[rec.offset])
		}
		have[rec.key] = rec.value
		newest[rec.key] = rec.offset
	}
	for _, off := range slices.Sorted(maps.Keys(r.all)) {
		if off < stable {
			want[r.all[off].key] = r.all[off].value
		}
	}
	gone := func(_, v string) bool { return v == "" }
	maps.DeleteFunc(have, gone)
	maps.DeleteFunc(want, gone)
	if diff := cmp.Diff(want, have); diff != "" {
		r.t.Fatalf("seed %d: state of the keys (-want +got):\n%s", r.seed, diff)
	}
	if limit := r.l.CompactedTo(); full {
		r.checkGone(limit)
		last := map[string]int64{}
		for _, rec := range got {
			if rec.offset < limit {
				last[rec.key] = rec.offset
			}
		}
		for _, rec := range got {
			if rec.offset < last[rec.key] {
				r.t.Fatalf("seed %d: %q at %d was replaced at %d, and is still there", r.seed, rec.key, rec.offset, last[rec.key])
			}
		}
	}
	for pid, seq := range r.seq {
		s := spec{pid: pid, seq: seq + 7}
		if pid >= 3 {
			s.attrs = transactional
		}
		if pid == 0 {
			continue
		}
		if _, err := put(r.l, kbatch(r.t, s, 0, krec{"k", "v"})); !errors.Is(err, store.ErrOutOfOrder) {
			r.t.Fatalf("seed %d: producer %d is not known any more: %v", r.seed, pid, err)
		}
	}
}

// checkGone: no record of an aborted transaction is left before limit.
func (r *compactRun) checkGone(limit int64) {
	r.t.Helper()
	start, _ := r.l.Bounds()
	for offset := start; offset < limit; {
		h, b, ok := batchAt(r.t, r.l, offset)
		if !ok {
			return
		}
		for _, rec := range parse(r.t, b) {
			if _, ok := r.all[rec.offset]; !ok && rec.offset < limit && h.Attributes&0x20 == 0 {
				r.t.Fatalf("seed %d: record at %d, before %d, is of an aborted transaction", r.seed, rec.offset, limit)
			}
		}
		offset = h.LastOffset() + 1
	}
}

// batchAt reads the batch at offset, or the next one; false at the end.
func batchAt(t *testing.T, l *store.Log, offset int64) (store.Header, []byte, bool) {
	t.Helper()
	s, err := l.Read(offset, 1, true)
	must(t, err)
	if s == nil {
		return store.Header{}, nil, false
	}
	defer s.Release()
	b := make([]byte, s.Len())
	must(t, s.ReadAt(b, 0))
	h, err := store.ParseHeader(b)
	must(t, err)
	return h, b, true
}

// TestCompactionKeepsSequences: a producer all of whose records were replaced
// by others' is still known when the log is all there is to know it by.
func TestCompactionKeepsSequences(t *testing.T) {
	for codec := range codecs {
		fsys := vfs.NewCrashable(1)
		opts := store.Options{Settings: store.Settings{SegmentBytes: 300, Compaction: compacted}}
		l := open(t, fsys, opts)
		write := func(s spec, key string) {
			a, err := put(l, kbatch(t, s, codec, krec{key, "1"}, krec{"b", "2"}))
			must(t, err)
			must(t, l.Wait(ctx(t), a.Next))
		}
		write(spec{pid: 7}, "a")
		write(spec{pid: 7, seq: 2}, "a")
		write(spec{pid: 8, attrs: transactional}, "a")
		mark(t, l, 8, 0, false)
		for range 9 {
			write(spec{}, "a")
		}
		compact(t, l)
		must(t, l.Close())
		must(t, fsys.Remove("p/checkpoint"))
		l = open(t, fsys, opts)
		if n := len(consume(t, l)); n > 6 {
			t.Errorf("%d records left: the test shows nothing", n)
		}
		for _, s := range []spec{{pid: 7, seq: 2}, {pid: 8, attrs: transactional}} {
			a, err := put(l, kbatch(t, s, codec, krec{"a", "1"}, krec{"b", "2"}))
			if err != nil || !a.Duplicate {
				t.Errorf("%s: producer %d sends again: %+v, %v, want a duplicate", codecs[codec].name, s.pid, a, err)
			}
		}
		if inOpenTxn(l, 8) {
			t.Errorf("%s: an aborted transaction is open again", codecs[codec].name)
		}
		must(t, l.Close())
	}
}

// TestCompactionKeepsMarkers: the marker of a committed transaction stays as
// long as a record of it, however old, and no longer.
func TestCompactionKeepsMarkers(t *testing.T) {
	var age int64
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentMs: 10, Compaction: compacted}, Age: func() int64 { return age }}
	l := open(t, fsys, opts)
	write := func(s spec, key string) {
		t.Helper()
		a, err := put(l, kbatch(t, s, 0, krec{key, "1"}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
	round := func() {
		t.Helper()
		age += 2000
		write(spec{pid: 9, seq: int32(age / 2000)}, "x")
		age += 10
		must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
		compact(t, l)
		bare := fsys.CrashClone()
		must(t, bare.Remove("p/checkpoint")) // then the log alone says what is open
		again := open(t, bare, opts)
		if inOpenTxn(again, 5) {
			t.Fatalf("%d ms: the transaction is open again", age)
		}
		must(t, again.Close())
	}
	markers := func() (n int) {
		for offset := int64(0); ; {
			h, _, ok := batchAt(t, l, offset)
			if !ok {
				return n
			}
			n += int(h.Attributes >> 5 & 1)
			offset = h.LastOffset() + 1
		}
	}
	write(spec{pid: 5, attrs: transactional}, "a")
	mark(t, l, 5, 0, true)
	write(spec{pid: 5, seq: 1, attrs: transactional}, "b")
	mark(t, l, 5, 0, true)
	for range 3 {
		round()
		if markers() != 2 {
			t.Fatalf("%d ms: %d markers, want both", age, markers())
		}
	}
	write(spec{}, "a")
	for range 4 { // the record goes, then the marker is met without it, then it is old
		age += 2000
		write(spec{}, "y")
		age += 10
		must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
		compact(t, l)
	}
	if markers() != 1 {
		t.Errorf("%d markers, want that of b", markers())
	}
	must(t, l.Close())
}

// TestTrimDuringSwap trims away what is just being compacted, at the instant
// when that cannot be taken back any more.
func TestTrimDuringSwap(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 300, Compaction: compacted}}
	l := open(t, fsys, opts)
	for i := range 20 {
		a, err := put(l, kbatch(t, spec{}, 0, krec{fmt.Sprint(i % 3), fmt.Sprintf("%050d", i)}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
	var once sync.Once
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpRename && strings.HasSuffix(name, "-> p/swap") {
			once.Do(func() { must(t, l.Trim(19)) })
		}
		return nil
	})
	compact(t, l)
	fsys.SetHook(nil)
	check := func(what string) {
		t.Helper()
		if start, hw := l.Bounds(); start != 19 || hw != 20 {
			t.Errorf("%s: log is %d to %d, want 19 to 20", what, start, hw)
		}
		if got := consume(t, l); len(got) != 1 || got[0].offset != 19 {
			t.Errorf("%s: records %v", what, got)
		}
	}
	check("after the swap")
	if entries, err := fsys.ReadDir("p"); err != nil || len(entries) > 5 {
		t.Errorf("%d files left, %v", len(entries), err)
	}
	must(t, l.Close())
	l = open(t, fsys.Crash(), opts)
	check("after a crash")
	must(t, l.Close())
}

// TestCompactionOrder shows every step on the disk, as TestSyncOrder does.
func TestCompactionOrder(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 300, Compaction: compacted}})
	for i := range 6 {
		a, err := put(l, kbatch(t, spec{}, 0, krec{"k", fmt.Sprintf("%050d", i)}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
	var got strings.Builder
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op != vfs.OpOpen && op != vfs.OpRead {
			fmt.Fprintln(&got, op, name)
		}
		return nil
	})
	compact(t, l)
	fsys.SetHook(nil)
	must(t, l.Close())
	const golden = "testdata/compact_order.golden"
	if *update {
		must(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("order of changes on disk (-want +got):\n%s", diff)
	}
}

// TestTombstones: one stays for delete.retention.ms from when compaction first
// met it, however often it runs, and then goes, on a quiet log too.
func TestTombstones(t *testing.T) {
	var age int64
	fsys := vfs.NewCrashable(1)
	opts := store.Options{
		Settings: store.Settings{SegmentMs: 10, Compaction: compacted}, Age: func() int64 { return age },
	}
	l := open(t, fsys, opts)
	write := func(key, value string) {
		t.Helper()
		a, err := put(l, kbatch(t, spec{}, 0, krec{key, value}))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
	}
	keys := func() string {
		var out []string
		for _, r := range consume(t, l) {
			out = append(out, r.key+"="+r.value)
		}
		return strings.Join(out, " ")
	}
	roll := func() {
		age += 10
		must(t, l.Retain(store.Retention{Bytes: -1, Ms: -1}))
		compact(t, l)
	}
	write("a", "1")
	write("b", "1")
	write("a", "")
	roll()
	met := age
	for i := range 8 {
		age = met + int64(i)*100
		write("c", fmt.Sprint(i))
		roll()
		must(t, l.Close())
		l = open(t, fsys, opts)
		if got := keys(); got != fmt.Sprintf("b=1 a= c=%d", i) {
			t.Fatalf("%d ms after it was met: %s", age-met, got)
		}
	}
	age = met + 999
	if _, due := l.CompactionDue(); due {
		t.Error("compaction is due before the tombstone may go")
	}
	age = met + 1000
	if _, due := l.CompactionDue(); !due {
		t.Error("compaction is not due when the tombstone may go")
	}
	compact(t, l)
	if got := keys(); got != "b=1 c=7" {
		t.Errorf("after delete.retention.ms: %s", got)
	}
	age += 5000
	if _, due := l.CompactionDue(); due {
		t.Error("compaction is due again with nothing to do")
	}
	must(t, l.Close())
}

// TestCompactionWaits: min.compaction.lag.ms, max.compaction.lag.ms, the dirty
// ratio and an open transaction each hold compaction back.
func TestCompactionWaits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		c     store.Compaction
		age   int64
		clean int // segments compacted before
		txn   bool
		want  bool
	}{
		{name: "dirty", want: true},
		{name: "not compacted", c: store.Compaction{Delete: true}},
		{name: "too young", c: store.Compaction{Compact: true, MinLagMs: 100}, age: 99},
		{name: "old enough", c: store.Compaction{Compact: true, MinLagMs: 100}, age: 100, want: true},
		{name: "mostly clean", c: store.Compaction{Compact: true, MinDirtyRatio: 0.5}, clean: 3},
		{name: "clean, but waiting long", c: store.Compaction{Compact: true, MinDirtyRatio: 0.5, MaxLagMs: 500}, age: 500, clean: 3, want: true},
		{name: "open transaction", txn: true},
	} {
		var age int64
		if !tt.c.Delete {
			tt.c.Compact = true
		}
		fsys := vfs.NewCrashable(1)
		l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 100, Compaction: compacted}, Age: func() int64 { return age }})
		write := func(n int, s spec) {
			for i := range n {
				a, err := put(l, kbatch(t, s, 0, krec{fmt.Sprint(i), strings.Repeat("v", 40)}))
				must(t, err)
				must(t, l.Wait(ctx(t), a.Next))
				s.seq++
			}
		}
		if tt.txn {
			write(1, spec{pid: 5, attrs: transactional})
		}
		write(tt.clean, spec{})
		write(1, spec{})
		compact(t, l)
		write(1, spec{})
		write(1, spec{})
		set := store.Settings{SegmentBytes: 100, Compaction: tt.c}
		l.Configure(set)
		age = tt.age
		if _, due := l.CompactionDue(); due != tt.want {
			t.Errorf("%s: due %v, want %v", tt.name, due, tt.want)
		}
		must(t, l.Close())
	}
}

// TestCompactionUnderReaders: a slice that was taken before goes on, and
// reading from every offset during and after finds the next record.
func TestCompactionUnderReaders(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 5000, Compaction: compacted}})
	for i := range 600 {
		_, err := put(l, kbatch(t, spec{ms: int64(i)}, 0, krec{fmt.Sprint("k", i%50), fmt.Sprintf("%060d", i)}))
		must(t, err)
	}
	must(t, l.Wait(ctx(t), 600))
	old, err := l.Read(3, 4000, true)
	must(t, err)
	before := make([]byte, old.Len())
	must(t, old.ReadAt(before, 0))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for r := range 2 {
		wg.Go(func() {
			for i := int64(r); ; i = (i + 7) % 600 {
				select {
				case <-stop:
					return
				default:
				}
				s, err := l.Read(i, 300, true)
				if err != nil || s == nil {
					t.Errorf("read at %d while compacting: %v, %v", i, s, err)
					return
				}
				b := make([]byte, 61)
				err = s.ReadAt(b, 0)
				s.Release()
				if h, e := store.ParseHeader(b); err != nil || e != nil || h.LastOffset() < i {
					t.Errorf("read at %d while compacting: batch at %d, %v, %v", i, h.BaseOffset, err, e)
					return
				}
				if at, ok, err := l.OffsetForTime(i); err != nil || !ok || at.Ms < i {
					t.Errorf("time %d while compacting: %+v, %v, %v", i, at, ok, err)
					return
				}
			}
		})
	}
	compact(t, l)
	close(stop)
	wg.Wait()
	after := make([]byte, old.Len())
	must(t, old.ReadAt(after, 0))
	old.Release()
	if !bytes.Equal(before, after) {
		t.Error("a slice changed under its reader")
	}
	if n := len(consume(t, l)); n > 160 {
		t.Errorf("%d records left of 600 with 50 keys", n)
	}
	must(t, l.Close())
}

func TestCheckKeys(t *testing.T) {
	for codec := range codecs {
		good := kbatch(t, spec{}, codec, krec{"a", "1"}, krec{"b", ""})
		bad := kbatch(t, spec{}, codec, krec{"a", "1"}, krec{"", "2"}, krec{"c", ""}, krec{"", "3"})
		check := func(b []byte) error {
			h, err := store.Check(b)
			must(t, err)
			return store.CheckKeys(b, h)
		}
		if err := check(good); err != nil {
			t.Errorf("%s: %v", codecs[codec].name, err)
		}
		err := check(bad)
		var keys *store.KeyError
		if !errors.As(err, &keys) || !errors.Is(err, store.ErrInvalid) || !slices.Equal(keys.Records, []int32{1, 3}) {
			t.Errorf("%s: got %v, want the records 1 and 3", codecs[codec].name, err)
		}
		if codec == 1 || codec == 4 {
			bomb := kbatch(t, spec{}, codec, krec{"a", strings.Repeat("\x00", 130<<20)})
			if err := check(bomb); err == nil {
				t.Errorf("%s: %d bytes of 130 MiB were taken", codecs[codec].name, len(bomb))
			}
		}
	}
}
