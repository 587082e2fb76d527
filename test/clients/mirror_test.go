package clients

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// TestMirrorMaker2 copies topics, their configurations and the offsets of
// groups between our broker and Apache Kafka, both ways, exactly once.
func TestMirrorMaker2(t *testing.T) {
	need(t)
	edge, centre := startBroker(t).addr, harness.StartKafka(t).HostAddr
	for addr, topic := range map[string]string{edge: "sensors", centre: "orders"} {
		cl := harness.Client(t, addr)
		defer cl.Close()
		retention := "7200000"
		if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 2, 1, map[string]*string{"retention.ms": &retention}, topic); err != nil {
			t.Fatal(err)
		}
		mirrorProduce(t, addr, topic, 0, 100)
	}
	startJava(t, "org.apache.kafka.connect.mirror.MirrorMaker", properties(t, mirrorConfig(edge, centre)))
	t.Run("edge to centre", func(t *testing.T) { checkMirror(t, edge, centre, "sensors", "edge.sensors") })
	t.Run("centre to edge", func(t *testing.T) { checkMirror(t, centre, edge, "orders", "centre.orders") })
}

func mirrorConfig(edge, centre string) map[string]string {
	conf := map[string]string{
		"clusters":                 "edge, centre",
		"edge.bootstrap.servers":   edge,
		"centre.bootstrap.servers": centre,
		"edge->centre.enabled":     "true", "edge->centre.topics": "sensors",
		"centre->edge.enabled": "true", "centre->edge.topics": "orders",
		"edge.exactly.once.source.support":   "enabled",
		"centre.exactly.once.source.support": "enabled",
		"refresh.topics.interval.seconds":    "1", "refresh.groups.interval.seconds": "1",
		"emit.checkpoints.interval.seconds": "1", "emit.heartbeats.interval.seconds": "1",
		"sync.topic.configs.interval.seconds": "1", "sync.topic.acls.interval.seconds": "1",
		"sync.group.offsets.enabled": "true", "sync.group.offsets.interval.seconds": "1",
		"offset.lag.max": "0", "offset.flush.interval.ms": "500", "tasks.max": "1",
		"plugin.discovery": "service_load",
	}
	for _, topic := range []string{"", "checkpoints.topic.", "heartbeats.topic.", "offset-syncs.topic.",
		"offset.storage.", "status.storage.", "config.storage."} {
		conf[topic+"replication.factor"] = "1"
	}
	return conf
}

func mirrorProduce(t *testing.T, addr, topic string, from, to int) {
	t.Helper()
	cl := harness.Client(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	for i := from; i < to; i++ {
		cl.Produce(t.Context(), &kgo.Record{
			Topic: topic, Partition: int32(i % 2), Key: fmt.Append(nil, "k", i), Value: fmt.Append(nil, i),
			Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)), Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}},
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce to %s: %v", topic, err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// commitAt commits an offset of partition 0 for the group "g".
func commitAt(t *testing.T, addr, topic string, at int64) {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, at, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "g", offsets); err != nil {
		t.Fatal(err)
	}
}

func checkMirror(t *testing.T, from, to, topic, mirror string) {
	cl := harness.Client(t, to)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	harness.Eventually(t, 2*time.Minute, mirror+" is there", func(ctx context.Context) error {
		topics, err := adm.ListTopics(ctx, mirror)
		if err != nil {
			return err
		}
		return topics[mirror].Err
	})
	mirrorProduce(t, from, topic, 100, 200)
	next := [2]int{0, 1}
	for _, r := range committed(t, to, mirror, 200) {
		i := next[r.Partition]
		want := fmt.Sprintf("k%d %d %d [n=%d]", i, i, 1_700_000_000_000+i, i)
		if got := fmt.Sprintf("%s %s %d %s", r.Key, r.Value, r.Timestamp.UnixMilli(), harness.Headers(r)); got != want {
			t.Fatalf("%s/%d: got record %q, want %q", mirror, r.Partition, got, want)
		}
		next[r.Partition] += 2
	}
	harness.Eventually(t, time.Minute, mirror+" has the configuration", func(context.Context) error {
		if got := topicConfig(t, to, mirror, "retention.ms"); got != "7200000" {
			return fmt.Errorf("got retention.ms=%s, want 7200000", got)
		}
		return nil
	})
	// Only now: MirrorMaker translates no offset from before its newest syncs.
	commitAt(t, from, topic, 100)
	harness.Eventually(t, time.Minute, "the group's offset came along", func(ctx context.Context) error {
		offsets, err := adm.FetchOffsets(ctx, "g")
		if err != nil {
			return err
		}
		ends, err := adm.ListEndOffsets(ctx, mirror)
		if err != nil {
			return err
		}
		end, _ := ends.Lookup(mirror, 0)
		if o, ok := offsets.Lookup(mirror, 0); !ok || o.At <= 0 || o.At > end.Offset {
			return fmt.Errorf("got %v %+v, want an offset up to %d", ok, o, end.Offset)
		}
		return nil
	})
}
