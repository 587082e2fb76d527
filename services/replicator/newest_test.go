package replicator

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// Old records wait, and the young go before them; through stops in between
// each is there once, the old ones in order, the young ones in order, and
// behind both all in order again.
func TestNewestFirst(t *testing.T) {
	t.Parallel()
	const old, young = 2000, 100
	for _, name := range []string{"stopped", "killed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
			cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
			cfg.Links[0].Topics = nil
			cfg.Links[0].Rules = []site.LinkRule{{Name: "alarms", Topics: []string{"sensors"}, NewestFirst: "10m"}}
			cfg.Links[0].Budget.Rate = "1MB/s"
			rnd := rand.NewChaCha8([32]byte{})
			var rs []*kgo.Record
			for n := range old + young {
				key := make([]byte, 1000)
				_, _ = rnd.Read(key)
				at := time.Now()
				if n < old {
					at = at.Add(-time.Hour)
				}
				rs = append(rs, &kgo.Record{Topic: "sensors", Key: key, Value: []byte(strconv.Itoa(n)), Timestamp: at})
			}
			produce(t, src.ListenAddrs(), rs...)
			r, stop := start(t, cfg)
			for _, n := range []int{young + 1, old / 2} {
				values(t, dst.ListenAddrs(), "sensors", n)
				if name == "killed" {
					for _, l := range r.links { // nothing is committed at the end
						l.abort()
					}
				}
				stop()
				r, stop = start(t, cfg)
			}
			values(t, dst.ListenAddrs(), "sensors", old+young)
			write(t, client(t, src.ListenAddrs()), "sensors", 1, old+young, old+young+50)
			got := values(t, dst.ListenAddrs(), "sensors", old+young+50)
			var seen [2][]int
			firstYoung := -1
			for i, rec := range got {
				n, err := strconv.Atoi(string(rec.Value))
				if err != nil {
					t.Fatal(err)
				}
				which := 0
				if n >= old {
					which = 1
				}
				if which == 1 && firstYoung < 0 {
					firstYoung = i
				}
				seen[which] = append(seen[which], n)
			}
			if len(seen[0]) != old || len(seen[1]) != young+50 || !slices.IsSorted(seen[0]) || !slices.IsSorted(seen[1]) ||
				len(slices.Compact(seen[0])) != old || len(slices.Compact(seen[1])) != young+50 {
				t.Errorf("%d old and %d young records arrived; each is wanted once, in order", len(seen[0]), len(seen[1]))
			}
			if firstYoung > old*3/4 {
				t.Errorf("the first young record lies behind %d of %d old ones", firstYoung, old)
			}
		})
	}
}
