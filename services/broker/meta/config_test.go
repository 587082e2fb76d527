package meta

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/vfs"
)

// TestConfigsSurvivePowerCut sets, replaces and removes configurations and
// feature levels, and cuts the power at every step.
func TestConfigsSurvivePowerCut(t *testing.T) {
	all, one, group := Resource{4, ""}, Resource{4, "1"}, Resource{32, "g"}
	for seed := range uint64(50) {
		fsys := vfs.NewCrashable(seed)
		st := open(t, fsys)
		must(t, st.SetConfig(all, map[string]string{"a": "1"}))
		must(t, st.SetConfig(one, map[string]string{"a": "1"}))
		must(t, st.SetConfig(group, map[string]string{"b": "1"}))
		must(t, st.SetFeatures(map[string]int16{"f": 1}))
		must(t, st.SetConfig(all, map[string]string{"a": "2", "c": ""}))
		must(t, st.SetConfig(one, nil))
		must(t, st.SetFeatures(map[string]int16{"f": 0}))

		again := open(t, fsys.Crash())
		if got := again.Configured(); !gocmp.Equal(got, []Resource{all, group}) {
			t.Fatalf("seed %d: configured: %v", seed, got)
		}
		if got := again.ConfigOf(all); !gocmp.Equal(got, map[string]string{"a": "2", "c": ""}) {
			t.Fatalf("seed %d: all brokers: %v", seed, got)
		}
		levels, epoch := again.Features()
		if levels["f"] != 0 || epoch != 2 {
			t.Fatalf("seed %d: features %v, epoch %d", seed, levels, epoch)
		}
		b := newState()
		must(t, again.s.Snapshot(func(p []byte) { must(t, b.Apply(p)) }))
		if diff := gocmp.Diff(again.s.configs, b.configs, gocmp.AllowUnexported(configs{})); diff != "" {
			t.Fatalf("seed %d: after a snapshot (-want +got):\n%s", seed, diff)
		}
		must(t, again.Close())
	}
}
