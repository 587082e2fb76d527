package replicator

import (
	"encoding/json"
	"testing"

	"github.com/waysideos/wayside/services/site"
)

// What the replicator says of itself rides a link like any other topic.
func TestTelemetryRidesALink(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t), cluster(t)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Topics = []string{"wayside.telemetry"}
	cfg.Telemetry = &site.Telemetry{Topic: "wayside.telemetry", Every: "100ms"}
	start(t, cfg)
	for _, rec := range values(t, dst.ListenAddrs(), "wayside.telemetry", 3) {
		var v Telemetry
		if err := json.Unmarshal(rec.Value, &v); err != nil || string(rec.Key) != "shop" || v.Version != 1 || v.Site != "shop" || v.Time.IsZero() ||
			v.Report.Name != "replicator" || len(v.Report.Links) != 1 || v.Report.Links[0].Name != "hq" {
			t.Errorf("key %q, value %s, %v", rec.Key, rec.Value, err)
		}
	}
}
