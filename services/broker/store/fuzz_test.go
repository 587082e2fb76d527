package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

func TestCheck(t *testing.T) {
	good := func() []byte { return batch(spec{values: []string{"a", "b"}, pid: 5}) }
	edit := func(at int, v byte) []byte {
		b := good()
		b[at] = v
		return seal(b)
	}
	flip := good()
	flip[len(flip)-1] ^= 1
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"good", good(), nil},
		{"empty", nil, store.ErrCorrupt},
		{"short", good()[:60], store.ErrCorrupt},
		{"flipped bit", flip, store.ErrCorrupt},
		{"cut", good()[:65], store.ErrCorrupt},
		{"length too small", edit(11, 3), store.ErrCorrupt},
		{"negative length", edit(8, 0xff), store.ErrCorrupt},
		{"message set v1", edit(16, 1), store.ErrMagic},
		{"short message set v1", edit(16, 1)[:40], store.ErrMagic},
		{"two batches", append(good(), good()...), store.ErrInvalid},
		{"codec 5", edit(22, 5), store.ErrCodec},
		{"control", edit(22, 0x20), store.ErrInvalid},
		{"transactional", edit(22, 0x10), nil},
		{"transactional without a producer", seal(batch(spec{values: []string{"a"}, attrs: 0x10})), store.ErrInvalid},
		{"log append time", edit(22, 0x08), store.ErrInvalid},
		{"record count", edit(60, 3), store.ErrInvalid},
		{"last offset delta", edit(26, 0), store.ErrInvalid},
		{"no sequence", edit(53, 0x80), store.ErrInvalid},
		{"record too long", edit(61, 0x70), store.ErrInvalid},
		{"bytes after the records", seal(lengthen(good())), store.ErrInvalid},
	}
	for _, tt := range tests {
		if _, err := store.Check(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func lengthen(b []byte) []byte {
	b[11]++
	return append(b, 0)
}

func FuzzCheck(f *testing.F) {
	f.Add(batch(spec{values: []string{"a", "bc"}}))
	f.Add(batch(spec{values: []string{"a"}, attrs: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := store.ParseHeader(b); err == nil && h.Size() == int64(len(b)) {
			seal(b) // let the fuzzer past the checksum
		}
		h, err := store.Check(b)
		if err != nil {
			return
		}
		if h.Size() != int64(len(b)) || h.Records < 1 {
			t.Errorf("took %d bytes as a batch of %d bytes and %d records", len(b), h.Size(), h.Records)
		}
	})
}

// FuzzOpen recovers from any content of segment and checkpoint, and then
// takes and keeps records.
func FuzzOpen(f *testing.F) {
	seg := batch(spec{values: []string{"a", "b"}})
	second := batch(spec{values: []string{"c"}})
	second[7] = 2
	ckpt := frame.Append(frame.Header("WAYSCKPT", 1), []byte(`{"start":1,"segment":0,"pos":0,"offset":1}`))
	f.Add(append(bytes.Clone(seg), second...), ckpt, []byte{})
	f.Add(append(bytes.Clone(seg), second[:30]...), []byte{}, []byte{1})
	f.Add(seg, frame.Append(frame.Header("WAYSCKPT", 1), []byte(`{"segment":0,"pos":75,"offset":2}`)), make([]byte, 16))
	txn := batch(inTxn(7, 0, 0, "a"))
	f.Add(txn, frame.Append(frame.Header("WAYSCKPT", 2), fmt.Appendf(nil, `{"segment":0,"pos":%d,"offset":1,"txn":true,"producers":[{"id":7,"e":0,"b":[],"x":0}],"age":9}`, len(txn))), []byte{})
	f.Add(txn, frame.Append(frame.Header("WAYSCKPT", 2), fmt.Appendf(nil, `{"segment":0,"pos":%d,"offset":1,"txn":true,"aborted":3}`, len(txn))), []byte{})
	f.Fuzz(func(t *testing.T, log, ckpt, index []byte) {
		if json, _, err := frame.Next(ckpt); err == nil && len(json) == 0 {
			ckpt = frame.Append(frame.Header("WAYSCKPT", 2), ckpt) // let the fuzzer past the checksum
		}
		fsys := vfs.NewCrashable(1)
		must(t, store.Create(fsys, "p"))
		must(t, frame.WriteFile(fsys, "p/00000000000000000000.log", log))
		must(t, frame.WriteFile(fsys, "p/00000000000000000000.index", index))
		must(t, frame.WriteFile(fsys, "p/00000000000000000000.timeindex", nil))
		if len(ckpt) > 0 {
			must(t, frame.WriteFile(fsys, "p/checkpoint", ckpt))
		}
		l, err := store.Open(fsys, "p", store.Options{Syncer: store.NewSyncer(1, nil)})
		if err != nil {
			return
		}
		a, err := put(l, batch(spec{values: []string{"new"}}))
		if err != nil {
			t.Fatalf("append after recovery: %v", err)
		}
		must(t, l.Wait(t.Context(), a.Next))
		start, stable, hw := l.Bounds3()
		if start > stable || stable > hw || hw != a.Next {
			t.Errorf("log start %d, last stable offset %d, high watermark %d", start, stable, hw)
		}
		for _, p := range l.Producers() {
			if p.TxnStart >= a.Base {
				t.Errorf("a transaction begins at %d, behind what was recovered", p.TxnStart)
			}
		}
		must(t, l.Close())
		l, err = store.Open(fsys.Crash(), "p", store.Options{Syncer: store.NewSyncer(1, nil)})
		must(t, err)
		if _, hw := l.Bounds(); hw != a.Next {
			t.Errorf("after a crash the log ends at %d, want %d", hw, a.Next)
		}
		must(t, l.Close())
	})
}

// FuzzTxnIndex reads any content as the transaction index of a sealed segment
// and of the one that the checkpoint trusts.
func FuzzTxnIndex(f *testing.F) {
	entry := func(fields ...int64) (b []byte) {
		b = []byte{0, 0}
		for _, v := range fields {
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		}
		return b
	}
	f.Add(entry(7, 0, 1, 2))
	f.Add(append(entry(7, 0, 3, 2), entry(8, 2, 4, 5)...))
	f.Add(entry(7, 5, 1, 2))
	f.Add(make([]byte, 33))
	f.Fuzz(func(t *testing.T, index []byte) {
		fsys := vfs.NewCrashable(1)
		l := open(t, fsys, store.Options{Settings: store.Settings{SegmentBytes: 300}})
		for i := range int32(3) { // the first segment, and the active one, have an index
			_, err := put(l, batch(inTxn(7, 0, i, strings.Repeat("x", 100))))
			must(t, err)
			_, err = l.AppendMarker(7, 0, false, 1)
			must(t, err)
		}
		segments := l.Stats().Segments
		must(t, l.Close())
		entries, err := fsys.ReadDir("p")
		must(t, err)
		var names []string
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".txnindex") {
				names = append(names, "p/"+e.Name())
			}
		}
		if len(names) != segments || segments < 2 {
			t.Fatalf("%d segments, transaction indexes %v", segments, names)
		}
		last := fsys.CrashClone()
		must(t, frame.WriteFile(last, names[len(names)-1], index))
		l = open(t, last, store.Options{})
		if _, stable, hw := l.Bounds3(); stable != hw || hw != 6 {
			t.Errorf("last stable offset %d, high watermark %d, want 6", stable, hw)
		}
		must(t, l.Close())
		must(t, frame.WriteFile(fsys, names[0], index))
		l = open(t, fsys, store.Options{})
		got, err := l.Aborted(0, 6)
		if err == nil && len(index)%34 != 0 {
			t.Errorf("took %d bytes as an index: %v", len(index), got)
		}
		for _, a := range got {
			if err == nil && (a.FirstOffset >= a.LastOffset || a.ProducerID < 0) {
				t.Errorf("took an impossible transaction: %+v", a)
			}
		}
		must(t, l.Close())
	})
}
