package store_test

import (
	"errors"
	"testing"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// FuzzRecovery opens a log beside which any mark, swap, compacted segment and
// damaged records lie. It opens or says why not, and what it then takes it
// keeps.
func FuzzRecovery(f *testing.F) {
	two := append(batch(spec{values: []string{"a", "b"}}), batch(spec{values: []string{"c"}})...)
	two[len(batch(spec{values: []string{"a", "b"}}))+7] = 2
	mark := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 3}
	swap := []byte(`{"base":0,"replaces":[0,5]}`)
	ckpt := []byte(`{"segment":5,"offset":5,"kept":{"s":[{"b":0,"m":3,"f":1,"l":2}],"c":[{"o":3,"a":9,"n":1}],"d":[{"b":0,"p":10,"e":20,"f":0,"t":1}]}}`)
	damaged := []byte(`{"segment":0,"offset":0,"kept":{"d":[{"b":0,"p":0,"e":75,"f":0,"t":2}]}}`)
	f.Add(two, mark, swap, two, ckpt)
	f.Add(append([]byte("rotten"), two...), mark, []byte{}, []byte{}, []byte{})
	f.Add(two, []byte{}, []byte{}, []byte{}, damaged)
	framed := func(kind string, body []byte) []byte {
		if len(body) == 0 {
			return nil
		}
		return frame.Append(frame.Header(kind, 1), body)
	}
	f.Fuzz(func(t *testing.T, log, mark, swap, cleaned, ckpt []byte) {
		fsys := vfs.NewCrashable(1)
		must(t, store.Create(fsys, "p"))
		for name, b := range map[string][]byte{
			"00000000000000000000.log": log, "mark": framed("WAYSMARK", mark),
			"swap": framed("WAYSSWAP", swap), "checkpoint": framed("WAYSCKPT", ckpt),
			"00000000000000000000.log.cleaned": cleaned, "00000000000000000005.log": nil,
		} {
			if len(b) > 0 || name == "00000000000000000005.log" {
				must(t, frame.WriteFile(fsys, "p/"+name, b))
			}
		}
		opts := store.Options{
			Settings: store.Settings{SegmentBytes: 300, Compaction: store.Compaction{Compact: true}},
			Syncer:   store.NewSyncer(1, nil), CompactMap: 240,
		}
		l, err := store.Open(fsys, "p", opts)
		if err != nil {
			return
		}
		if _, err := l.Compact(t.Context(), noPace); err != nil && !errors.Is(err, store.ErrCorrupt) {
			t.Fatalf("compact: %v", err)
		}
		l.Scrub(t.Context(), noPace, 0)
		a, err := put(l, batch(spec{values: []string{"new"}}))
		if err != nil {
			t.Fatalf("append after recovery: %v", err)
		}
		must(t, l.Wait(t.Context(), a.Next))
		must(t, l.Close())
		l, err = store.Open(fsys.Crash(), "p", opts)
		must(t, err)
		if _, hw := l.Bounds(); hw != a.Next {
			t.Errorf("after a crash the log ends at %d, want %d", hw, a.Next)
		}
		must(t, l.Close())
	})
}

func FuzzCheckKeys(f *testing.F) {
	for codec := range codecs {
		f.Add(kbatch(f, spec{}, codec, krec{"a", "1"}, krec{"", "2"}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := store.ParseHeader(b); err == nil && h.Size() == int64(len(b)) {
			seal(b)
		}
		h, err := store.Check(b)
		if err != nil {
			return
		}
		var keys *store.KeyError
		if err := store.CheckKeys(b, h); errors.As(err, &keys) {
			for _, i := range keys.Records {
				if i < 0 || i >= h.Records {
					t.Errorf("record %d of %d has no key", i, h.Records)
				}
			}
		}
	})
}
