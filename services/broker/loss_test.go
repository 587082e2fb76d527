package broker_test

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// TestStateLost: a broker whose state is garbage from its first byte starts,
// serves its records, tells of it until somebody has dealt with it, and until
// then refuses what no access rule speaks of.
func TestStateLost(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys)
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	_, err := adm.CreateTopic(within(t), 2, 1, map[string]*string{"retention.ms": kadm.StringPtr("12345678")}, "t")
	must(t, err)
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("kept")})
	before, err := adm.Metadata(within(t), "t")
	must(t, err)
	must(t, b.stop())
	entries, err := fsys.ReadDir("meta")
	must(t, err)
	for _, e := range entries {
		must(t, frame.WriteFile(fsys, "meta/"+e.Name(), bytes.Repeat([]byte("garbage"), 50)))
	}

	for range 2 { // and not again and again
		b = start(t, fsys)
		cl = client(t, b, kgo.ConsumeTopics("t"))
		if r := consume(t, cl, 1); string(r[0].Value) != "kept" {
			t.Errorf("consumed %q", r[0].Value)
		}
		after, err := kadm.NewClient(cl).Metadata(within(t), "t")
		must(t, err)
		if after.Cluster != before.Cluster || after.Topics["t"].ID != before.Topics["t"].ID || len(after.Topics["t"].Partitions) != 2 {
			t.Errorf("cluster %s, topic %+v; before %s, %+v", after.Cluster, after.Topics["t"], before.Cluster, before.Topics["t"])
		}
		configs, err := kadm.NewClient(cl).DescribeTopicConfigs(within(t), "t")
		must(t, err)
		for _, c := range configs[0].Configs {
			if c.Key == "retention.ms" && c.MaybeValue() != "12345678" {
				t.Errorf("retention.ms is %s", c.MaybeValue())
			}
		}
		if s := b.Status(); s.OK || s.Facts[0].Name != "the broker's state was lost" {
			t.Errorf("the page says %v %+v", s.OK, s.Facts)
		}
		must(t, b.stop())
	}

	guarded := func(c *broker.Config) { c.Access = &auth.Policy{AllowIfNone: true} }
	b = start(t, fsys, guarded)
	if err := client(t, b).ProduceSync(within(t), &kgo.Record{Topic: "t", Value: []byte("refused")}).FirstErr(); err == nil {
		t.Error("rules are lost, and what none speaks of is allowed")
	}
	must(t, b.stop())

	b = start(t, fsys)
	_, err = kadm.NewClient(client(t, b)).AlterBrokerConfigs(within(t), []kadm.AlterConfig{{Name: "wayside.loss.seen", Value: kadm.StringPtr(b.LossID())}})
	must(t, err)
	if s := b.Status(); !s.OK {
		t.Errorf("dealt with, and the page says %+v", s.Facts)
	}
	must(t, b.stop())
	b = start(t, fsys, guarded)
	produce(t, client(t, b), &kgo.Record{Topic: "t", Value: []byte("allowed")})
}
