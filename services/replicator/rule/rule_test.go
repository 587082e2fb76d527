package rule

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

func record(offset int64, key, value string) *kgo.Record {
	return &kgo.Record{Offset: offset, Key: []byte(key), Value: []byte(value), Timestamp: time.UnixMilli(offset * 1000)}
}

func made(t *testing.T, r site.LinkRule) *Rule {
	t.Helper()
	out, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhere(t *testing.T) {
	yes, no := true, false
	r := record(1, "pump-7", `{"t": 80.0, "on": true, "motor": {"rpm": 1200}, "name": "north", "gone": null, "list": [1, 2]}`)
	r.Headers = []kgo.RecordHeader{{Key: "source", Value: []byte("old")}, {Key: "source", Value: []byte("plc")}}
	for _, tt := range []struct {
		q    site.Condition
		want bool
	}{
		{site.Condition{Key: "pump-*"}, true},
		{site.Condition{Key: "pump-?"}, true},
		{site.Condition{Key: "*7*"}, true},
		{site.Condition{Key: "pump"}, false},
		{site.Condition{Key: "valve*"}, false},
		{site.Condition{Header: "source", Is: "plc"}, true},
		{site.Condition{Header: "source", Is: "old"}, false},
		{site.Condition{Header: "other", Not: "plc"}, true},
		{site.Condition{Header: "other", Exists: &no}, true},
		{site.Condition{Field: "t", Above: "79"}, true},
		{site.Condition{Field: "t", Above: "80"}, false},
		{site.Condition{Field: "t", Above: "79", Below: "80"}, false},
		{site.Condition{Field: "t", Is: "80"}, true},
		{site.Condition{Field: "on", Is: "true"}, true},
		{site.Condition{Field: "motor.rpm", Below: "1500"}, true},
		{site.Condition{Field: "motor.rpm.x", Exists: &yes}, false},
		{site.Condition{Field: "name", Like: "n*h"}, true},
		{site.Condition{Field: "name", Above: "3"}, false},
		{site.Condition{Field: "name", Not: "north"}, false},
		{site.Condition{Field: "gone", Exists: &yes}, false},
		{site.Condition{Field: "list", Is: "[1,2]"}, true},
		{site.Condition{Field: "absent", Above: "0"}, false},
	} {
		if got := made(t, site.LinkRule{Where: []site.Condition{tt.q}}).Keep(r); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.q, got, tt.want)
		}
	}
	if made(t, site.LinkRule{Where: []site.Condition{{Field: "t", Exists: &yes}}}).Keep(record(1, "", "no JSON")) {
		t.Error("a value that is no JSON has a field")
	}
}

func TestFields(t *testing.T) {
	r := made(t, site.LinkRule{Fields: []string{"b.x", "a", "b.y", "none", "b.z.deep"}})
	got, err := r.Apply(record(1, "", `{"a": 12345678901234567890, "b": {"y": "é<", "x": [1], "w": 0}, "c": 1}`))
	if want := `{"a":12345678901234567890,"b":{"x":[1],"y":"é<"}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "x", "[1]", `{"a":1} {"a":2}`} {
		if got, err := r.Apply(record(1, "", bad)); err == nil {
			t.Errorf("%q became %s, want an error", bad, got)
		}
	}
	if got, err := r.Apply(&kgo.Record{}); got != nil || err != nil {
		t.Errorf("a tombstone became %q, %v", got, err)
	}
}

func TestSampleKeepsOneOfEach(t *testing.T) {
	r := made(t, site.LinkRule{Sample: 10})
	kept := map[string]int{}
	for n := range int64(10_000) {
		if rec := record(n, fmt.Sprint("device-", n%100), ""); r.Keep(rec) {
			kept[string(rec.Key)]++
		}
	}
	all := 0
	for _, n := range kept {
		all += n
	}
	if all < 500 || all > 2000 {
		t.Errorf("%d of 10000 are kept, want about 1000", all)
	}
}

func TestWindows(t *testing.T) {
	r := made(t, site.LinkRule{Window: &site.LinkWindow{
		Every: "10s", Grace: "2s", Fields: []string{"t"}, Functions: []string{"count", "sum", "min", "max", "mean", "last"},
	}})
	w := r.NewWindows(0)
	var got []string
	for _, rec := range []*kgo.Record{
		record(1, "a", `{"t": 4}`), record(3, "b", `{"t": 1}`), record(5, "a", `{"t": 2}`), record(9, "a", `{"x": 2}`),
		record(11, "a", `{"t": 7}`), // the first window is open for its grace
		{Offset: 12, Key: []byte("b"), Value: []byte(`{"t": 3}`), Timestamp: time.UnixMilli(9999)},
		record(13, "b", "no JSON"),
		{Offset: 14, Key: []byte("b"), Timestamp: time.UnixMilli(9000)}, // too late
		record(22, "c", ""),
	} {
		for _, out := range w.Add(rec) {
			got = append(got, fmt.Sprintf("%d %s %s", rec.Offset, out.Key, out.Value))
		}
	}
	want := []string{
		`13 a {"count":3,"from":0,"t":{"last":2,"max":4,"mean":3,"min":2,"sum":6},"to":10000}`,
		`13 b {"count":2,"from":0,"t":{"last":3,"max":3,"mean":2,"min":1,"sum":4},"to":10000}`,
		`22 a {"count":1,"from":10000,"t":{"last":7,"max":7,"mean":7,"min":7,"sum":7},"to":20000}`,
		`22 b {"count":1,"from":10000,"to":20000}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
	if w.Late() != 1 || w.Closed() != 20000 || w.Hold(23) != 22 {
		t.Errorf("late %d, closed %d, hold %d; want 1, 20000, 22", w.Late(), w.Closed(), w.Hold(23))
	}
	if out := w.Flush(time.UnixMilli(31_999)); len(out) != 0 {
		t.Errorf("flushed before the grace has passed: %s", out[0].Value)
	}
	if out := w.Flush(time.UnixMilli(32_000)); len(out) != 1 || w.Hold(23) != 23 {
		t.Errorf("%d summaries at the flush, hold %d; want 1, 23", len(out), w.Hold(23))
	}
}

// Wherever reading ends and begins again, from Hold with what Closed said,
// the summaries are those of one reading.
func TestWindowsReadAgain(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	r := made(t, site.LinkRule{Window: &site.LinkWindow{Every: "10s", Grace: "5s", Fields: []string{"t"}, Functions: []string{"count", "sum"}}})
	var recs []*kgo.Record
	for n := range int64(500) {
		rec := record(n, fmt.Sprint(n%3), fmt.Sprintf(`{"t": %d}`, n))
		rec.Timestamp = time.UnixMilli(n*1000 - rnd.Int64N(12_000))
		recs = append(recs, rec)
	}
	var want, got []string
	w := r.NewWindows(0)
	for _, rec := range recs {
		for _, out := range w.Add(rec) {
			want = append(want, string(out.Key)+string(out.Value))
		}
	}
	w = r.NewWindows(0)
	for n, steps := int64(0), 0; n < int64(len(recs)); steps++ {
		for _, out := range w.Add(recs[n]) {
			got = append(got, string(out.Key)+string(out.Value))
		}
		n++
		if rnd.IntN(20) == 0 && steps < 20_000 {
			n = w.Hold(n)
			w = r.NewWindows(w.Closed())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summaries (-once +again):\n%s", diff)
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1}}`), "k*", "k")
	f.Add([]byte(`[`), "*?*", "")
	yes := true
	f.Fuzz(func(t *testing.T, v []byte, pattern, text string) {
		match(pattern, text)
		r, err := New(site.LinkRule{Fields: []string{"a.b", "c"}, Where: []site.Condition{{Field: "a", Exists: &yes}}})
		if err != nil {
			t.Fatal(err)
		}
		rec := &kgo.Record{Value: v}
		if r.Keep(rec) {
			if _, err := r.Apply(rec); err != nil {
				t.Errorf("a value with a field cannot be read: %v", err)
			}
		}
	})
}
