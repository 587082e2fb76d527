package catalog_test

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAlterSurvivesPowerCut cuts the power at every step of altering a topic
// and the broker: what was acknowledged is in force, what was not is so or not.
func TestAlterSurvivesPowerCut(t *testing.T) {
	for seed := range uint64(40) {
		fsys := vfs.NewCrashable(seed)
		c := open(t, fsys)
		_, err := c.Create("t", 2, map[string]string{"retention.ms": "1"})
		must(t, err)
		type cut struct {
			fsys *vfs.Crashable
			done string // the last value that was acknowledged
		}
		var mu sync.Mutex // of cuts: the hook is called from many goroutines
		var cuts []cut
		done := "1"
		fsys.SetHook(func(vfs.Op, string) error {
			mu.Lock()
			defer mu.Unlock()
			cuts = append(cuts, cut{fsys.CrashClone(), done})
			return nil
		})
		must(t, c.Alter("t", map[string]string{"retention.ms": "2"}))
		done = "2"
		must(t, c.EditBroker("", false, set("log.segment.bytes", "5000")))
		must(t, c.Alter("t", nil)) // the built-in default
		done = "604800000"
		cuts = append(cuts, cut{fsys.CrashClone(), done})
		fsys.SetHook(nil)
		after := map[string][]string{"1": {"1", "2"}, "2": {"2", "604800000"}, "604800000": {"604800000"}}
		for i, k := range cuts {
			again := open(t, k.fsys)
			got := again.Get("t").Value("retention.ms")
			if want := after[k.done]; got != want[0] && got != want[len(want)-1] {
				t.Fatalf("seed %d cut %d: retention.ms is %s, want one of %v", seed, i, got, want)
			}
			if i == len(cuts)-1 && again.Get("t").Partitions[1].Log.Settings().SegmentBytes != 5000 {
				t.Fatalf("seed %d: the broker's segment size is lost", seed)
			}
		}
	}
}

func set(name, value string) func(map[string]string) error {
	return func(m map[string]string) error {
		m[name] = value
		return nil
	}
}

// TestSettings: every configuration that a log knows reaches open logs, from
// the topic before the broker before the profile.
func TestSettings(t *testing.T) {
	c := open(t, vfs.NewCrashable(1))
	_, err := c.Create("t", 1, nil)
	must(t, err)
	settings := func() store.Settings { return c.Get("t").Partitions[0].Log.Settings() }
	const never = 1<<63 - 1
	want := store.Settings{
		SegmentBytes: 64 << 20, SegmentMs: 604800000, BeforeMaxMs: never, AfterMaxMs: never,
		Compression: "producer", MaxMessageBytes: 1048588,
		Compaction: store.Compaction{Delete: true, DeleteRetentionMs: 86400000, MaxLagMs: never, MinDirtyRatio: 0.5},
	}
	check := func(what string) {
		t.Helper()
		if diff := cmp.Diff(want, settings()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("defaults")
	must(t, c.EditBroker(catalog.NodeName, false, func(m map[string]string) error {
		maps.Copy(m, map[string]string{"message.max.bytes": "2000", "log.cleanup.policy": "compact", "wayside.durability": "write", "wayside.full": "drop-oldest"})
		return nil
	}))
	want.MaxMessageBytes, want.WriteIsEnough = 2000, true
	want.Compaction.Compact, want.Compaction.Delete = true, false
	check("of the broker")
	if c.Get("t").DropsOldest() {
		t.Error("a compacted topic gives up records")
	}
	must(t, c.Alter("t", map[string]string{
		"cleanup.policy": "delete, compact", "compression.type": "zstd", "delete.retention.ms": "1", "max.compaction.lag.ms": "2",
		"max.message.bytes": "3", "message.timestamp.after.max.ms": "4", "message.timestamp.before.max.ms": "0",
		"message.timestamp.type": "LogAppendTime", "min.cleanable.dirty.ratio": "0.25", "min.compaction.lag.ms": "5",
		"segment.bytes": "600", "segment.ms": "7", "wayside.durability": "sync", "retention.ms": "8", "retention.bytes": "9",
	}))
	want = store.Settings{
		SegmentBytes: 600, SegmentMs: 7, BeforeMaxMs: 1, AfterMaxMs: 4, LogAppendTime: true,
		Compression: "zstd", MaxMessageBytes: 3,
		Compaction: store.Compaction{Compact: true, Delete: true, DeleteRetentionMs: 1, MinLagMs: 5, MaxLagMs: 2, MinDirtyRatio: 0.25},
	}
	check("of the topic")
	topic := c.Get("t")
	if got := topic.Retention(); got != (store.Retention{Bytes: 9, Ms: 8}) || !topic.DropsOldest() || topic.MaxMessageBytes() != 3 {
		t.Errorf("retention %+v, drops oldest %v, largest message %d", got, topic.DropsOldest(), topic.MaxMessageBytes())
	}
}

func TestSettingsSayWhereTheyComeFrom(t *testing.T) {
	c := open(t, vfs.NewCrashable(1))
	_, err := c.Create("t", 1, nil)
	must(t, err)
	must(t, c.EditBroker("", false, set("log.retention.ms", "3")))
	must(t, c.EditBroker(catalog.NodeName, false, set("log.retention.ms", "2")))
	must(t, c.Alter("t", map[string]string{"retention.ms": "1"}))
	d, _ := catalog.Lookup("retention.ms")
	want := []catalog.Setting{
		{Name: "retention.ms", Value: "1", Origin: catalog.OfTopic}, {Name: "log.retention.ms", Value: "2", Origin: catalog.OfBroker},
		{Name: "log.retention.ms", Value: "3", Origin: catalog.OfAllBrokers}, {Name: "log.retention.ms", Value: "604800000", Origin: catalog.BuiltIn},
	}
	if diff := cmp.Diff(want, c.TopicSettings(c.Get("t"), d)); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestDefs holds every definition to itself: sorted, documented, and with a
// default that it takes.
func TestDefs(t *testing.T) {
	for _, defs := range [][]catalog.Def{catalog.Defs, catalog.BrokerDefs} {
		for i, d := range defs {
			if i > 0 && defs[i-1].Name >= d.Name {
				t.Errorf("%s comes after %s", d.Name, defs[i-1].Name)
			}
			if err := d.Check(d.Default); err != nil && !d.ReadOnly {
				t.Errorf("default of %s: %v", d.Name, err)
			}
			if !strings.HasSuffix(d.Doc, ".") {
				t.Errorf("%s: doc %q", d.Name, d.Doc)
			}
		}
	}
}

func TestCheckConfig(t *testing.T) {
	for _, tt := range []struct {
		name, good, bad string // words apart by a bar
	}{
		{"cleanup.policy", "delete|compact|compact,delete|delete, compact", "burn||delete,delete|delete,"},
		{"compression.type", "producer|uncompressed|gzip|snappy|lz4|zstd", "none|GZIP|gzip,zstd|"},
		{"max.message.bytes", "0|1048588|16777216", "-1|16777217|1e3|"},
		{"message.timestamp.type", "CreateTime|LogAppendTime", "createtime"},
		{"min.cleanable.dirty.ratio", "0|0.5|1", "-0.1|1.1|NaN|half"},
		{"min.insync.replicas", "1|2|3", "0|4"},
		{"preallocate", "true|false", "1|yes"},
		{"retention.ms", "-1|0|9223372036854775807", "-2|9223372036854775808|7d"},
		{"segment.bytes", "14|1073741824", "13|1073741825"},
		{"wayside.durability", "sync|write", "never"},
		{"wayside.full", "block|drop-oldest", "drop-newest"},
		{"no.such", "", "1"},
	} {
		for _, v := range strings.Split(tt.good, "|") {
			if err := catalog.CheckConfig(map[string]string{tt.name: v}); err != nil && tt.good != "" {
				t.Errorf("%s=%q: %v", tt.name, v, err)
			}
		}
		for _, v := range strings.Split(tt.bad, "|") {
			if err := catalog.CheckConfig(map[string]string{tt.name: v}); !errors.Is(err, catalog.ErrConfig) {
				t.Errorf("%s=%q is taken (%v)", tt.name, v, err)
			}
		}
	}
}

func TestBrokerRefusals(t *testing.T) {
	c := open(t, vfs.NewCrashable(1))
	for name, value := range map[string]string{
		"node.id": "2", "no.such": "1", "retention.ms": "1", "num.partitions": "0", "wayside.disk.share": "0%", "auto.create.topics.enable": "maybe",
	} {
		if err := c.EditBroker("", false, set(name, value)); !errors.Is(err, catalog.ErrConfig) {
			t.Errorf("%s=%s: got %v, want a refusal", name, value, err)
		}
	}
	must(t, c.EditBroker("", true, set("num.partitions", "7")))
	if got := c.BrokerValue("num.partitions"); got != "1" {
		t.Errorf("num.partitions is %s after a dry run", got)
	}
}

func TestPercent(t *testing.T) {
	for text, want := range map[string]int64{"80%": 80, "1%": 1, "100%": 100, "0%": 0, "101%": 0, "80": 0, "%": 0, "08%": 0, "+8%": 0, "": 0} {
		if got := catalog.Percent(text); got != want {
			t.Errorf("Percent(%q): got %d, want %d", text, got, want)
		}
	}
}
