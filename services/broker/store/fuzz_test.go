package store_test

import (
	"bytes"
	"errors"
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
		{"transactional", edit(22, 0x10), store.ErrTransaction},
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
	f.Fuzz(func(t *testing.T, log, ckpt, index []byte) {
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
		must(t, l.Close())
		l, err = store.Open(fsys.Crash(), "p", store.Options{Syncer: store.NewSyncer(1, nil)})
		must(t, err)
		if _, hw := l.Bounds(); hw != a.Next {
			t.Errorf("after a crash the log ends at %d, want %d", hw, a.Next)
		}
		must(t, l.Close())
	})
}
