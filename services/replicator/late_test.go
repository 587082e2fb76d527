package replicator

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// A record that comes when its window has closed is in no summary, and that is
// told.
func TestLateRecordsAreTold(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Topics = nil
	cfg.Links[0].Rules = []site.LinkRule{{Name: "tens", Topics: []string{"sensors"}, Window: &site.LinkWindow{Every: "10s", Functions: []string{"count"}}}}
	for _, second := range []int64{1, 2, 11, 3, 4, 12} {
		produce(t, src.ListenAddrs(), &kgo.Record{Topic: "sensors", Timestamp: time.Unix(1_700_000_000+second, 0)})
	}
	r, _ := start(t, cfg)
	told(t, r, "sensors/0: 2 records came later than the grace of rule tens")
	want := `{"count":2,"from":1700000000000,"to":1700000010000}`
	if got := texts(values(t, dst.ListenAddrs(), "sensors", 1)); len(got) != 1 || got[0] != want {
		t.Errorf("summaries %q, want %q", got, want)
	}
}
