package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// stored returns the batch that holds an offset, as it lies on the disk.
func stored(t *testing.T, l *store.Log, offset int64) (store.Header, []byte) {
	t.Helper()
	s, err := l.Read(offset, 1, true)
	must(t, err)
	defer s.Release()
	b := make([]byte, s.Len())
	must(t, s.ReadAt(b, 0))
	h, err := store.ParseHeader(b)
	must(t, err)
	return h, b
}

// TestLogAppendTime: records carry the broker's time, which never goes back,
// with a checksum that fits.
func TestLogAppendTime(t *testing.T) {
	now := time.UnixMilli(5000)
	opts := store.Options{Settings: store.Settings{LogAppendTime: true}, Now: func() time.Time { return now }}
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, opts)
	offset := int64(0)
	put := func(want int64) {
		t.Helper()
		a := putDurable(t, l, spec{values: []string{"a", "b"}, ms: 77})
		h, b := stored(t, l, offset)
		if a.AppendMs != want || h.MaxTimestamp != want || h.FirstTimestamp != 77 || h.Attributes != 0x08 {
			t.Errorf("at %d: told %d, stored %+v, want append time %d", offset, a.AppendMs, h, want)
		}
		if crc := binary.BigEndian.Uint32(seal(slices.Clone(b))[17:]); crc != h.CRC {
			t.Errorf("at %d: checksum %x, want %x", offset, h.CRC, crc)
		}
		offset = a.Next
	}
	put(5000)
	now = time.UnixMilli(6000)
	put(6000)
	now = time.UnixMilli(1000) // set back
	put(6000)
	fsys = fsys.Crash()
	l.Close()
	l = open(t, fsys, opts) // and a start in the past, after a power cut
	put(6000)
	must(t, l.Close())
	l = open(t, fsys, opts) // or a clean stop
	put(6000)
	now = time.UnixMilli(7000)
	put(7000)
	for _, tt := range []struct{ ms, offset, at int64 }{{0, 0, 5000}, {5001, 2, 6000}, {6001, 10, 7000}} {
		if got, ok, err := l.OffsetForTime(tt.ms); !ok || err != nil || got.Offset != tt.offset || got.Ms != tt.at {
			t.Errorf("time %d: got %+v, %v, %v, want offset %d of %d", tt.ms, got, ok, err, tt.offset, tt.at)
		}
	}
	l.Configure(store.Settings{})
	if a := putDurable(t, l, spec{values: []string{"c"}, ms: 77}); a.AppendMs != -1 {
		t.Errorf("with the producer's time: told append time %d", a.AppendMs)
	}
	if h, _ := stored(t, l, offset); h.MaxTimestamp != 77 || h.Attributes != 0 {
		t.Errorf("with the producer's time: stored %+v", h)
	}
	must(t, l.Close())
}

func TestTimestampBounds(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	tests := []struct {
		before, after int64
		ms            int64 // of the first record; the second is 1 ms younger
		want          error
	}{
		{0, 0, 1, nil},
		{1000, 0, 999_000, nil},
		{1000, 0, 998_999, store.ErrTimestamp},
		{1000, 0, 2_000_000, nil},
		{0, 1000, 1_000_999, nil},
		{0, 1000, 1_001_000, store.ErrTimestamp},
		{0, 1000, 5, nil},
		{1<<63 - 1, 1<<63 - 1, 1 << 62, nil},
		{0, 1<<63 - 2, -7, nil},
		{1<<63 - 2, 0, -1 << 63, store.ErrTimestamp},
	}
	for _, tt := range tests {
		l := open(t, vfs.NewCrashable(1), store.Options{
			Settings: store.Settings{BeforeMaxMs: tt.before, AfterMaxMs: tt.after}, Now: func() time.Time { return now },
		})
		b := batch(spec{values: []string{"a", "b"}, ms: tt.ms})
		if _, err := put(l, b); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%+v: got %v", tt, err)
		}
		if end := l.Stats().End; (end == 2) != (tt.want == nil) {
			t.Errorf("%+v: log ends at %d", tt, end)
		}
		l.Close()
	}
}

func TestOffsetForMaxTimestamp(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	opts := store.Options{Settings: store.Settings{SegmentBytes: 1000}}
	l := open(t, fsys, opts)
	check := func(what string, want int64) {
		t.Helper()
		got, ok, err := l.OffsetForMaxTimestamp()
		if ok != (want >= 0) || err != nil || ok && got.Offset != want {
			t.Errorf("%s: got %+v, %v, %v, want offset %d", what, got, ok, err, want)
		}
	}
	check("empty", -1)
	fill := func(ms int64) store.Appended { // three records of ms to ms+2
		return putDurable(t, l, spec{values: numbered(strings.Repeat("x", 100), 0, 3), ms: ms})
	}
	for i := range 10 {
		fill(int64(100 * i))
	}
	check("rising", 29)
	a := fill(5000)
	check("jump", a.Base+2)
	fill(5000) // as late as the one before
	check("equal", a.Base+2)
	for range 10 {
		fill(10)
	}
	check("sealed", a.Base+2)
	must(t, l.Close())
	l = open(t, fsys, opts)
	check("after a restart", a.Base+2)
	must(t, l.Trim(a.Base+3))
	check("trimmed, the equal one", a.Base+5)
	must(t, l.Trim(a.Base+6))
	check("trimmed", a.Base+8)
	must(t, l.Close())
	l = open(t, vfs.NewCrashable(1), opts)
	for codec := range codecs {
		a, err := put(l, compressed(t, spec{values: []string{"latest", "later", "late"}, ms: 50, falls: true}, codec))
		must(t, err)
		must(t, l.Wait(ctx(t), a.Next))
		fill(10)
		must(t, l.Trim(a.Base+2))
		check("trimmed within a batch, "+codecs[codec].name, a.Base+2)
		must(t, l.Trim(a.Next))
	}
	must(t, l.Close())
	for _, size := range []int64{0, 600, 3000} { // falling: the largest is always the first
		trimmed := vfs.NewCrashable(1)
		l = open(t, trimmed, store.Options{Settings: store.Settings{SegmentBytes: size}})
		for i := range 20 {
			fill(int64(9000 - 100*i))
		}
		for i := range int64(20) {
			must(t, l.Trim(3*i))
			check(fmt.Sprint("trimmed to ", 3*i), 3*i+2)
		}
		l.Close()
	}
}

// TestMaxTimestampNotReadable: what is not durable yet does not count, index
// entries or not.
func TestMaxTimestampNotReadable(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	check := func(what string, want int64) {
		t.Helper()
		if got, ok, err := l.OffsetForMaxTimestamp(); !ok || err != nil || got.Offset != want {
			t.Errorf("%s: got %+v, %v, %v, want offset %d", what, got, ok, err, want)
		}
	}
	for i := range 6 {
		putDurable(t, l, spec{values: []string{strings.Repeat("x", 3000)}, ms: int64(50 - i)})
	}
	check("falling", 0)
	gate := make(chan struct{})
	fsys.SetHook(func(op vfs.Op, _ string) error {
		if op == vfs.OpSync {
			<-gate
		}
		return nil
	})
	for i := range 6 {
		if _, err := put(l, batch(spec{values: []string{strings.Repeat("y", 3000)}, ms: int64(9000 + i)})); err != nil {
			t.Fatal(err)
		}
	}
	check("not readable yet", 0)
	close(gate)
	must(t, l.Wait(ctx(t), 12))
	check("readable", 11)
	must(t, l.Close())
}

// TestWriteIsEnough: a topic that does not wait for the disk.
func TestWriteIsEnough(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{})
	putDurable(t, l, spec{values: []string{"a"}})
	gate := make(chan struct{})
	fsys.SetHook(func(op vfs.Op, _ string) error {
		if op == vfs.OpSync {
			<-gate
		}
		return nil
	})
	if _, err := put(l, batch(spec{values: []string{"b"}})); err != nil {
		t.Fatal(err)
	}
	if _, hw := l.Bounds(); hw != 1 {
		t.Errorf("high watermark before the sync: %d, want 1", hw)
	}
	l.Configure(store.Settings{WriteIsEnough: true})
	a, err := put(l, batch(spec{values: []string{"c"}}))
	must(t, err)
	must(t, l.Wait(ctx(t), a.Next)) // the sync is still held back
	if got := readAll(t, l, 0); !cmp.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("before the sync: %v", got)
	}
	for range 30 {
		crashed := fsys.CrashClone()
		crashed.SetHook(nil)
		again := open(t, crashed, store.Options{})
		if got := readAll(t, again, 0); len(got) < 1 || len(got) > 3 || !slices.Equal(got, []string{"a", "b", "c"}[:len(got)]) {
			t.Errorf("after a power cut: %v", got)
		}
		again.Close()
	}
	l.Configure(store.Settings{})
	a, err = put(l, batch(spec{values: []string{"d"}}))
	must(t, err)
	if _, hw := l.Bounds(); hw != 3 {
		t.Errorf("high watermark when the sync counts again: %d, want 3", hw)
	}
	close(gate)
	must(t, l.Wait(ctx(t), a.Next))
	must(t, l.Close())
	l = open(t, fsys.Crash(), store.Options{})
	if got := readAll(t, l, 0); len(got) != 4 {
		t.Errorf("after a clean stop: %v", got)
	}
	l.Close()
}

// TestWriteIsNotEnoughForMarkers: the coordinator forgets a transaction when
// its markers are there.
func TestWriteIsNotEnoughForMarkers(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{WriteIsEnough: true}, Linger: time.Hour})
	gate := make(chan struct{})
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, ".log") {
			<-gate
		}
		return nil
	})
	_, err := put(l, batch(inTxn(7, 0, 0, "a")))
	must(t, err)
	wantBounds(t, "written", l, 0, 1)
	a, err := l.AppendMarker(7, 0, true, 1)
	must(t, err)
	b, err := put(l, batch(spec{values: []string{"b"}}))
	must(t, err)
	wantBounds(t, "marker written", l, 0, 1)
	close(gate)
	must(t, l.Wait(ctx(t), a.Next))
	crashed := fsys.CrashClone()
	must(t, l.Wait(ctx(t), b.Next))
	wantBounds(t, "marker durable", l, 3, 3)
	_, err = put(l, batch(spec{values: []string{"c"}}))
	must(t, err)
	wantBounds(t, "written behind it", l, 4, 4)
	l.Close()
	again := open(t, crashed, store.Options{})
	if got := committed(t, again, 0); len(got) < 1 || got[0] != "a" {
		t.Errorf("after a power cut: %v, want the transaction", got)
	}
	again.Close()
}

// TestWriteIsEnoughRolls: what has not been synced is, before its segment is
// sealed.
func TestWriteIsEnoughRolls(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	l := open(t, fsys, store.Options{Settings: store.Settings{WriteIsEnough: true, SegmentBytes: 500}, Linger: time.Hour})
	for i := range 20 {
		if _, err := put(l, batch(spec{values: numbered(strings.Repeat("x", 50), i, 1)})); err != nil {
			t.Fatal(err)
		}
	}
	crashed := fsys.Crash()
	l.Close()
	again := open(t, crashed, store.Options{})
	if got := readAll(t, again, 0); len(got) < 16 {
		t.Errorf("%d records are left, want those of all sealed segments", len(got))
	}
	again.Close()
}
