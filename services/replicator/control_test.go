package replicator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/replicator/budget"
	"github.com/waysideos/wayside/services/replicator/rule"
	"github.com/waysideos/wayside/services/site"
)

// ask calls the API of a replicator, and decodes what it answers.
func ask(t *testing.T, r *Replicator, method, path string, v any) int {
	t.Helper()
	mux := http.NewServeMux()
	r.Handle(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
			t.Fatalf("%s %s answers %q: %v", method, path, w.Body, err)
		}
	}
	return w.Code
}

func TestPauseAndRewind(t *testing.T) {
	for name, exact := range map[string]bool{exactlyOnce: true, atLeastOnce: false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
			if !exact {
				noTransactions(dst)
			}
			cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
			cl := client(t, src.ListenAddrs())
			write(t, cl, "sensors", 1, 0, 10)
			r, stop := start(t, cfg)
			read(t, dst.ListenAddrs(), "sensors", 10)

			var s LinkState
			if code := ask(t, r, http.MethodPost, "/links/hq/pause", &s); code != http.StatusOK || !s.Paused {
				t.Fatalf("pause: status %d, %+v", code, s)
			}
			stop()
			write(t, cl, "sensors", 1, 10, 20)
			r, stop = start(t, cfg)
			eventually(t, "the link is paused after a restart, and knows what waits", func() bool {
				ask(t, r, http.MethodGet, "/links/hq", &s)
				return s.Paused && s.Lag.Records == 10
			})
			if n := len(values2(t, dst.ListenAddrs(), "sensors")); n != 10 {
				t.Errorf("%d records are there while the link is paused, want 10", n)
			}
			ask(t, r, http.MethodPost, "/links/hq/resume", &s)
			check(t, read(t, dst.ListenAddrs(), "sensors", 20), 1, 20)
			eventually(t, "the map says where records lie", func() bool {
				ask(t, r, http.MethodGet, "/links/hq", &s)
				return len(s.Partitions) == 1 && s.Partitions[0].Next == 20 && slices.ContainsFunc(s.Partitions[0].Map, func(at [3]int64) bool { return at[0] == 20 && at[1] == s.Partitions[0].Dest })
			})

			for path, want := range map[string]int{
				"/links/hq/rewind?topic=sensors&to=21":             http.StatusConflict,
				"/links/hq/rewind?topic=sensors&to=soon":           http.StatusConflict,
				"/links/hq/rewind?topic=other&to=earliest":         http.StatusConflict,
				"/links/other/pause":                               http.StatusNotFound,
				"/links/hq/rewind?topic=sensors&partition=0&to=15": http.StatusOK,
			} {
				if code := ask(t, r, http.MethodPost, path, &s); code != want {
					t.Errorf("%s: status %d, want %d", path, code, want)
				}
			}
			var got []int
			for _, rec := range values(t, dst.ListenAddrs(), "sensors", 25) {
				var n int
				fmt.Sscan(string(rec.Value), &n)
				got = append(got, n)
			}
			var want []int
			for n := range 20 {
				want = append(want, n)
			}
			if diff := cmp.Diff(append(want, 15, 16, 17, 18, 19), got); diff != "" {
				t.Errorf("after a rewind (-want +got):\n%s", diff)
			}
			stop()
			write(t, cl, "sensors", 1, 20, 21)
			start(t, cfg)
			if got := values(t, dst.ListenAddrs(), "sensors", 26); len(got) != 26 || string(got[25].Value) != "20" {
				t.Errorf("%d records after a restart, want 26", len(got))
			}
		})
	}
}

// Windows that the clock closes are part of what a spent budget leaves.
func TestSpentBudgetHoldsSummaries(t *testing.T) {
	t.Parallel()
	dst := cluster(t)
	l := newTestLink(t, dst)
	r, err := rule.New(site.LinkRule{Name: "tens", Window: &site.LinkWindow{Every: "10s", Functions: []string{"count"}}})
	if err != nil {
		t.Fatal(err)
	}
	n := &lane{rule: r, rank: ranks[site.Normal]}
	p := &partition{key: key{n, "sensors", 0}, active: true, win: r.NewWindows(0)}
	p.win.Add(&kgo.Record{Timestamp: time.UnixMilli(1)})
	l.parts[p.key] = p
	if l.budget, err = budget.New(site.Budget{Day: "1B"}); err != nil {
		t.Fatal(err)
	}
	for spent, want := range []int{1, 0} {
		l.budget.Spend(time.Now(), int64(spent))
		if _, outs, _ := l.takeLot(); len(outs) != want {
			t.Errorf("%d bytes spent of 1: %d summaries go, want %d", spent, len(outs), want)
		}
		p.lot = lot{}
	}
}

// When the day's bytes are used up, only what goes first is carried.
func TestSpentBudget(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors", "alarms")), cluster(t)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Budget = site.Budget{Day: "100B"} // to connect takes more
	cfg.Links[0].Rules = []site.LinkRule{{Name: "alarms", Topics: []string{"alarms"}, Priority: site.High}}
	r, stop := start(t, cfg)
	eventually(t, "the link is up", func() bool { return linkOf(r).Up })
	produce(t, src.ListenAddrs(), &kgo.Record{Topic: "sensors", Value: []byte("1")}, &kgo.Record{Topic: "alarms", Value: []byte("2")})
	if got := texts(values(t, dst.ListenAddrs(), "alarms", 1)); !slices.Equal(got, []string{"2"}) {
		t.Errorf("alarms = %v", got)
	}
	eventually(t, "the status says why something waits", func() bool {
		why, _ := fact(r, "budget")
		return linkOf(r).Lag == 1 && strings.Contains(why, "used up")
	})
	var before, after LinkState
	ask(t, r, http.MethodGet, "/links/hq", &before)
	stop()
	r, _ = start(t, cfg)
	eventually(t, "what was used is known after a restart", func() bool {
		ask(t, r, http.MethodGet, "/links/hq", &after)
		return after.Used.DayBytes >= before.Used.DayBytes && before.Used.DayBytes > 0
	})
}

func TestDryRun(t *testing.T) {
	lc := site.Link{Name: "hq", Topics: []string{"*"}, Prefix: "p.", Rules: []site.LinkRule{
		{Name: "cut", Topics: []string{"sensors"}, To: "{site}.cut", Where: []site.Condition{{Key: "a"}}, Fields: []string{"t"}},
		{Name: "sum", Topics: []string{"sensors"}, To: "sum", Window: &site.LinkWindow{Every: "10s", Functions: []string{"count"}}},
		{Name: "other", Topics: []string{"other"}},
	}}
	var rs []*kgo.Record
	for n := range int64(3) {
		rs = append(rs, &kgo.Record{Offset: n, Key: []byte("a"), Value: fmt.Appendf(nil, `{"t":%d,"x":0}`, n), Timestamp: time.UnixMilli(n * 8000)})
	}
	rs[1].Value = []byte("no JSON")
	all, err := DryRun(lc, "shop", "sensors", rs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range all {
		for _, o := range p.Records {
			got = append(got, fmt.Sprintf("%s>%s %d %v %v", p.Rule, p.To, o.Offset, o.Out, o.Error != ""))
		}
		got = append(got, fmt.Sprintf("%d to %d", p.In.Records, p.Out.Records))
	}
	want := []string{
		`>p.sensors 0 [{"t":0,"x":0}] false`, `>p.sensors 1 [no JSON] false`, `>p.sensors 2 [{"t":2,"x":0}] false`, "3 to 3",
		`cut>shop.cut 0 [{"t":0}] false`, `cut>shop.cut 1 [] true`, `cut>shop.cut 2 [{"t":2}] false`, "3 to 2",
		`sum>sum 0 [] false`, `sum>sum 1 [] false`, `sum>sum 2 [{"count":2,"from":0,"to":10000}] false`, `sum>sum -1 [{"count":1,"from":10000,"to":20000}] false`, "3 to 2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dry run (-want +got):\n%s", diff)
	}
}

func FuzzPosition(f *testing.F) {
	f.Add([]byte(`{"v":1,"next":3,"epoch":-1,"dest":5,"id":"AQAAAAAAAAAAAAAAAAAAAA==","closed":7}`), "dest=1 again=2 id=x closed=3 mirror")
	f.Add([]byte(`{"v":2}`), "")
	f.Fuzz(func(t *testing.T, value []byte, text string) {
		if at, ok := parsePosition(value); ok && (at.next < 0 || at.dest < -1) {
			t.Errorf("%q is position %+v", value, at)
		}
		at := parseMetadata(3, -1, text)
		if at.next != 3 || at.dest < -1 || at.again < 0 {
			t.Errorf("%q is position %+v", text, at)
		}
		again := parseMetadata(3, -1, metadata(at.position, at.id, !at.final)+" map="+at.pairs.text())
		if at.dest >= 0 && !reflect.DeepEqual(again, at) {
			t.Errorf("%+v came back as %+v", at, again)
		}
	})
}

func TestPairsThinOut(t *testing.T) {
	var ps pairs
	for n := range int64(10_000) {
		ps = ps.add(pair{n, 2 * n, 0})
	}
	if len(ps) > maxPairs || ps[len(ps)-1] != (pair{9999, 19998, 0}) {
		t.Errorf("%d pairs, the last is %v", len(ps), ps[len(ps)-1])
	}
	if ps[0][0] != 0 {
		t.Errorf("the first pair is %v, want the oldest", ps[0])
	}
	if text := ps.text(); len(text) > 3000 {
		t.Errorf("the text has %d bytes, Kafka takes 4096 of metadata", len(text))
	} else if diff := cmp.Diff(ps, parsePairs(text)); diff != "" {
		t.Errorf("pairs came back otherwise (-want +got):\n%s", diff)
	}
}

func TestTranslate(t *testing.T) {
	ps := pairs{{10, 100, 0}, {20, 110, 10}, {30, 130, 5}, {40, 140, 0}}
	for offset, want := range map[int64]struct {
		dest  int64
		exact bool
	}{
		9: {-1, false}, 10: {100, true}, 15: {105, true}, 20: {110, true}, 24: {110, false}, 25: {125, true}, 26: {126, true}, 30: {130, true},
		39: {130, false}, 40: {140, true}, 50: {140, false},
	} {
		if dest, exact := ps.translate(offset); dest != want.dest || exact != want.exact {
			t.Errorf("translate(%d) = %d, %v, want %v", offset, dest, exact, want)
		}
	}
	if got := ps.until(30, 129); len(got) != 2 {
		t.Errorf("until(30, 129) = %v", got)
	}
}
