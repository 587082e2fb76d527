package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/vfs"
)

func admin(t *testing.T, b *running) (*kadm.Client, *kgo.Client) {
	t.Helper()
	cl := client(t, b)
	return kadm.NewClient(cl), cl
}

// wantErr wants one of Kafka's errors, or none.
func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// TestCreateTopicsAsOthersDo makes the internal topics of Connect, Streams,
// MirrorMaker and the schema registry as those make them.
func TestCreateTopicsAsOthersDo(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	adm, _ := admin(t, b)
	for _, tt := range []struct {
		topic       string
		partitions  int32
		replication int16
		config      map[string]string
	}{
		{"connect-configs", 1, 3, map[string]string{"cleanup.policy": "compact"}},
		{"connect-offsets", 25, 3, map[string]string{"cleanup.policy": "compact", "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}},
		{"app-store-changelog", 4, -1, map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}},
		{"app-window-changelog", 4, -1, map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "172800000", "message.timestamp.type": "CreateTime"}},
		{"app-repartition", 4, -1, map[string]string{"cleanup.policy": "delete", "segment.bytes": "52428800", "retention.ms": "-1", "message.timestamp.type": "CreateTime"}},
		{"mm2-offset-syncs.b.internal", 1, 2, map[string]string{"cleanup.policy": "compact"}},
		{"heartbeats", 1, 1, map[string]string{"cleanup.policy": "compact"}},
		{"_schemas", 1, 1, map[string]string{"cleanup.policy": "compact"}},
		{"flushed", -1, 1, map[string]string{"flush.messages": "1", "flush.ms": "1000", "preallocate": "true", "index.interval.bytes": "4096", "file.delete.delay.ms": "1"}},
	} {
		config := map[string]*string{}
		for k, v := range tt.config {
			config[k] = &v
		}
		got, err := adm.CreateTopic(within(t), tt.partitions, tt.replication, config, tt.topic)
		if err != nil {
			t.Errorf("%s: %v", tt.topic, err)
			continue
		}
		if got.ReplicationFactor != 1 || got.NumPartitions != max(tt.partitions, 1) {
			t.Errorf("%s: %d partitions with %d replicas", tt.topic, got.NumPartitions, got.ReplicationFactor)
		}
		for k, v := range tt.config {
			if c := got.Configs[k]; c.MaybeValue() != v || c.Source != kmsg.ConfigSourceDynamicTopicConfig {
				t.Errorf("%s: %s is %q of source %v in the answer, want %q", tt.topic, k, c.MaybeValue(), c.Source, v)
			}
		}
		if c := got.Configs["segment.ms"]; c.MaybeValue() != "604800000" || c.Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("%s: segment.ms is %q of source %v", tt.topic, c.MaybeValue(), c.Source)
		}
	}
}

func TestCreateTopicsRefusals(t *testing.T) {
	b := start(t, vfs.NewCrashable(1), func(c *broker.Config) { c.AutoCreate = false })
	_, cl := admin(t, b)
	ctx := within(t)
	req := kmsg.NewPtrCreateTopicsRequest()
	add := func(name string, edit func(*kmsg.CreateTopicsRequestTopic)) {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
		edit(&rt)
		req.Topics = append(req.Topics, rt)
	}
	assign := func(rt *kmsg.CreateTopicsRequestTopic, parts ...int32) {
		rt.NumPartitions, rt.ReplicationFactor = -1, -1
		for _, p := range parts {
			rt.ReplicaAssignment = append(rt.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: p, Replicas: []int32{1}})
		}
	}
	bad := "bad"
	add("good", func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 1, 0, 2) })
	add("twice", func(*kmsg.CreateTopicsRequestTopic) {})
	add("twice", func(*kmsg.CreateTopicsRequestTopic) {})
	add("four", func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 4 })
	add("no replica", func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 0 })
	add("gap", func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0, 2) })
	add("same", func(rt *kmsg.CreateTopicsRequestTopic) { assign(rt, 0, 0) })
	add("other", func(rt *kmsg.CreateTopicsRequestTopic) {
		assign(rt, 0)
		rt.ReplicaAssignment[0].Replicas = []int32{2}
	})
	add("config", func(rt *kmsg.CreateTopicsRequestTopic) {
		rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms", Value: &bad})
	})
	add("null", func(rt *kmsg.CreateTopicsRequestTopic) {
		rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms"})
	})
	add("..", func(*kmsg.CreateTopicsRequestTopic) {})
	add("wide", func(rt *kmsg.CreateTopicsRequestTopic) { rt.NumPartitions = 10001 })
	want := []error{nil, kerr.InvalidRequest, kerr.InvalidRequest, kerr.InvalidReplicationFactor, kerr.InvalidReplicationFactor,
		kerr.InvalidReplicaAssignment, kerr.InvalidReplicaAssignment, kerr.InvalidReplicaAssignment,
		kerr.InvalidConfig, kerr.InvalidConfig, kerr.InvalidTopicException, kerr.InvalidPartitions}
	for _, validate := range []bool{true, false} {
		req.ValidateOnly = validate
		resp, err := req.RequestWith(ctx, cl)
		must(t, err)
		for i, got := range resp.Topics {
			wantErr(t, fmt.Sprintf("validate only %v, %s", validate, got.Topic), kerr.ErrorForCode(got.ErrorCode), want[i])
			if (got.ErrorMessage != nil) != (want[i] != nil) {
				t.Errorf("%s: message %v", got.Topic, got.ErrorMessage)
			}
		}
		if names := topicNames(t, cl); len(names) != map[bool]int{true: 0, false: 1}[validate] {
			t.Errorf("validate only %v: topics %v", validate, names)
		}
	}
}

// TestInvalidTopicIsNotLogged: librdkafka asks for a topic of an invalid name
// every second, for as long as a producer has records for it.
func TestInvalidTopicIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	b := start(t, vfs.NewCrashable(1), func(c *broker.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = true
	topic := "no such$"
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	resp, err := req.RequestWith(within(t), client(t, b))
	must(t, err)
	wantErr(t, "metadata", kerr.ErrorForCode(resp.Topics[0].ErrorCode), kerr.InvalidTopicException)
	must(t, b.stop())
	if log.Len() > 0 {
		t.Errorf("the log says: %s", &log)
	}
}

// TestDeleteTopics by name and by id, and what is there no more.
func TestDeleteTopics(t *testing.T) {
	b := start(t, vfs.NewCrashable(1), func(c *broker.Config) { c.AutoCreate = false })
	adm, cl := admin(t, b)
	ctx := within(t)
	made, err := adm.CreateTopics(ctx, 2, 1, nil, "a", "b", "c")
	must(t, err)
	req := kmsg.NewPtrDeleteTopicsRequest()
	byName, byID, both := kmsg.NewDeleteTopicsRequestTopic(), kmsg.NewDeleteTopicsRequestTopic(), kmsg.NewDeleteTopicsRequestTopic()
	byName.Topic = kmsg.StringPtr("a")
	byID.TopicID = made["b"].ID
	both.Topic, both.TopicID = kmsg.StringPtr("c"), made["c"].ID
	unknown := kmsg.NewDeleteTopicsRequestTopic()
	unknown.TopicID = [16]byte{1}
	req.Topics = []kmsg.DeleteTopicsRequestTopic{byName, byID, both, unknown}
	resp, err := req.RequestWith(ctx, cl)
	must(t, err)
	for i, want := range []error{nil, nil, kerr.InvalidRequest, kerr.UnknownTopicID} {
		wantErr(t, fmt.Sprint("topic ", i), kerr.ErrorForCode(resp.Topics[i].ErrorCode), want)
	}
	if got := resp.Topics; *got[1].Topic != "b" || got[0].TopicID != made["a"].ID {
		t.Errorf("name and id are not filled in: %+v", got[:2])
	}
	if diff := cmp.Diff([]string{"c"}, topicNames(t, cl)); diff != "" {
		t.Errorf("topics left (-want +got):\n%s", diff)
	}
}

// topicNames asks for all topics, which admin clients may answer from memory.
func topicNames(t *testing.T, cl *kgo.Client) []string {
	t.Helper()
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(within(t), cl)
	must(t, err)
	var names []string
	for _, rt := range resp.Topics {
		names = append(names, *rt.Topic)
	}
	return names
}

func TestCreatePartitions(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys)
	adm, cl := admin(t, b)
	ctx := within(t)
	_, err := adm.CreateTopics(ctx, 2, 1, nil, "a", "b", "c")
	must(t, err)
	req := kmsg.NewPtrCreatePartitionsRequest()
	for _, p := range []struct {
		topic  string
		count  int32
		assign [][]int32
	}{{"a", 4, [][]int32{{1}, {1}}}, {"b", 2, nil}, {"b2", 2, nil}, {"c", 3, [][]int32{{1}, {1}}}} {
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = p.topic, p.count
		for _, r := range p.assign {
			rt.Assignment = append(rt.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: r})
		}
		req.Topics = append(req.Topics, rt)
	}
	for _, validate := range []bool{true, false} {
		req.ValidateOnly = validate
		resp, err := req.RequestWith(ctx, cl)
		must(t, err)
		for i, want := range []error{nil, kerr.InvalidPartitions, kerr.UnknownTopicOrPartition, kerr.InvalidReplicaAssignment} {
			wantErr(t, fmt.Sprintf("validate only %v, topic %d", validate, i), kerr.ErrorForCode(resp.Topics[i].ErrorCode), want)
		}
	}
	b.stop()
	adm, _ = admin(t, start(t, fsys))
	topics, err := adm.ListTopics(ctx)
	must(t, err)
	if got := len(topics["a"].Partitions); got != 4 {
		t.Errorf("a has %d partitions after a restart, want 4", got)
	}
}

// TestAlterConfigs goes through the ways in which a configuration changes, and
// looks at it after a restart.
func TestAlterConfigs(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys)
	adm, _ := admin(t, b)
	ctx := within(t)
	_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000")}, "t")
	must(t, err)
	alter := func(what string, want error, changes ...kadm.AlterConfig) {
		t.Helper()
		resp, err := adm.AlterTopicConfigs(ctx, changes, "t")
		must(t, err)
		wantErr(t, what, resp[0].Err, want)
	}
	str := kadm.StringPtr
	alter("set", nil, kadm.AlterConfig{Name: "segment.bytes", Value: str("1048576")}, kadm.AlterConfig{Name: "max.message.bytes", Value: str("5000")})
	alter("append", nil, kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: str("compact")})
	alter("append again", nil, kadm.AlterConfig{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: str("compact")})
	alter("subtract", nil, kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: str("delete")})
	alter("delete", nil, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "retention.ms"})
	alter("append to a number", kerr.InvalidConfig, kadm.AlterConfig{Op: kadm.AppendConfig, Name: "retention.ms", Value: str("1")})
	alter("take the last word", kerr.InvalidConfig, kadm.AlterConfig{Op: kadm.SubtractConfig, Name: "cleanup.policy", Value: str("compact")})
	alter("bad value", kerr.InvalidConfig, kadm.AlterConfig{Name: "retention.ms", Value: str("soon")})
	alter("no value", kerr.InvalidRequest, kadm.AlterConfig{Name: "retention.ms"})
	alter("twice", kerr.InvalidRequest, kadm.AlterConfig{Name: "retention.ms", Value: str("1")}, kadm.AlterConfig{Name: "retention.ms", Value: str("2")})
	alter("all or none", kerr.InvalidConfig, kadm.AlterConfig{Name: "segment.ms", Value: str("77")}, kadm.AlterConfig{Name: "no.such", Value: str("1")})
	dry, err := adm.ValidateAlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "segment.ms", Value: str("77")}}, "t", "none")
	must(t, err)
	for _, r := range dry {
		wantErr(t, "validate only "+r.Name, r.Err, map[string]error{"none": kerr.UnknownTopicOrPartition}[r.Name])
	}

	want := map[string]string{"segment.bytes": "1048576", "max.message.bytes": "5000", "cleanup.policy": "compact"}
	check := func(what string) {
		t.Helper()
		if diff := cmp.Diff(want, ownConfigs(t, adm, "t")); diff != "" {
			t.Errorf("%s: what was set (-want +got):\n%s", what, diff)
		}
	}
	check("at once")
	// In force for producers too.
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordRetries(1))
	err = cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: []byte("k"), Value: make([]byte, 6000)}).FirstErr()
	wantErr(t, "a record longer than max.message.bytes", err, kerr.MessageTooLarge)
	b.stop()
	b = start(t, fsys)
	adm, _ = admin(t, b)
	check("after a restart")
	set, err := adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: str("7")}}, "t")
	must(t, err)
	must(t, set[0].Err)
	want = map[string]string{"retention.ms": "7"}
	check("replaced by AlterConfigs")
}

// ownConfigs are the configurations that were set for a topic.
func ownConfigs(t *testing.T, adm *kadm.Client, topic string) map[string]string {
	t.Helper()
	configs, err := adm.DescribeTopicConfigs(within(t), topic)
	must(t, err)
	must(t, configs[0].Err)
	got := map[string]string{}
	for _, c := range configs[0].Configs {
		if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
			got[c.Key] = c.MaybeValue()
		}
	}
	return got
}

// TestBrokerConfigs: what a client sets for the broker is the default of all
// topics, says where it comes from, and survives a restart.
func TestBrokerConfigs(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys, func(c *broker.Config) { c.DiskShare = "70%" })
	adm, cl := admin(t, b)
	ctx := within(t)
	_, err := adm.CreateTopic(ctx, 1, 1, nil, "t")
	must(t, err)
	str := kadm.StringPtr
	alter := func(want error, changes []kadm.AlterConfig, brokers ...int32) {
		t.Helper()
		resp, err := adm.AlterBrokerConfigs(ctx, changes, brokers...)
		must(t, err)
		wantErr(t, fmt.Sprint(changes, brokers), resp[0].Err, want)
	}
	alter(nil, []kadm.AlterConfig{{Name: "log.retention.ms", Value: str("111")}, {Name: "num.partitions", Value: str("3")}})
	alter(nil, []kadm.AlterConfig{{Name: "log.retention.ms", Value: str("222")}, {Name: "wayside.disk.share", Value: str("60%")}}, 1)
	alter(kerr.InvalidConfig, []kadm.AlterConfig{{Name: "node.id", Value: str("2")}}, 1)
	alter(kerr.InvalidConfig, []kadm.AlterConfig{{Name: "log.retention.ms", Value: str("x")}}, 1)

	check := func(what string) {
		t.Helper()
		got := synonyms(t, cl, kmsg.ConfigResourceTypeTopic, "t", "retention.ms")
		want := []string{"log.retention.ms=222 of 2", "log.retention.ms=111 of 3", "log.retention.ms=604800000 of 5"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: values of retention.ms (-want +got):\n%s", what, diff)
		}
		got = synonyms(t, cl, kmsg.ConfigResourceTypeBroker, "1", "wayside.disk.share")
		if diff := cmp.Diff([]string{"wayside.disk.share=60% of 2", "wayside.disk.share=70% of 4", "wayside.disk.share=80% of 5"}, got); diff != "" {
			t.Errorf("%s: values of wayside.disk.share (-want +got):\n%s", what, diff)
		}
		if got := synonyms(t, cl, kmsg.ConfigResourceTypeBroker, "", "num.partitions"); len(got) != 1 || got[0] != "num.partitions=3 of 3" {
			t.Errorf("%s: num.partitions of all brokers: %v", what, got)
		}
		if got := synonyms(t, cl, kmsg.ConfigResourceTypeBroker, "", "node.id"); len(got) != 0 {
			t.Errorf("%s: node.id of all brokers: %v", what, got)
		}
	}
	check("at once")
	b.stop()
	b = start(t, fsys, func(c *broker.Config) { c.DiskShare = "70%" })
	adm, cl = admin(t, b)
	check("after a restart")
	produce(t, cl, &kgo.Record{Topic: "made-on-use", Value: []byte("v")})
	topics, err := adm.ListTopics(ctx, "made-on-use")
	must(t, err)
	if got := len(topics["made-on-use"].Partitions); got != 3 {
		t.Errorf("a topic made on use has %d partitions, want num.partitions", got)
	}
}

// synonyms are all values of one configuration, the first in force.
func synonyms(t *testing.T, cl *kgo.Client, kind kmsg.ConfigResourceType, resource, name string) []string {
	t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName, rr.ConfigNames = kind, resource, []string{name}
	req.Resources = append(req.Resources, rr)
	resp, err := req.RequestWith(within(t), cl)
	must(t, err)
	must(t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
	var got []string
	for _, c := range resp.Resources[0].Configs {
		if c.Documentation == nil || *c.Documentation == "" {
			t.Errorf("%s has no documentation", c.Name)
		}
		if *c.Value != *c.ConfigSynonyms[0].Value || c.Source != c.ConfigSynonyms[0].Source {
			t.Errorf("%s: value %s of %v is not that of the first synonym", name, *c.Value, c.Source)
		}
		for _, s := range c.ConfigSynonyms {
			got = append(got, fmt.Sprintf("%s=%s of %d", s.Name, *s.Value, s.Source))
		}
	}
	return got
}

func TestOtherResources(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	adm, cl := admin(t, b)
	ctx := within(t)
	_, err := adm.CreateTopic(ctx, 1, 1, nil, "t")
	must(t, err)
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, r := range []struct {
		kind kmsg.ConfigResourceType
		name string
	}{{kmsg.ConfigResourceTypeTopic, "none"}, {kmsg.ConfigResourceTypeTopic, "a b"}, {kmsg.ConfigResourceTypeBroker, "2"},
		{kmsg.ConfigResourceTypeBrokerLogger, "1"}, {kmsg.ConfigResourceTypeClientMetrics, "m"}, {1, "x"}} {
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: r.kind, ResourceName: r.name})
	}
	resp, err := req.RequestWith(ctx, cl.Broker(1))
	must(t, err)
	for i, want := range []error{kerr.UnknownTopicOrPartition, kerr.InvalidTopicException, kerr.InvalidRequest, nil, nil, kerr.InvalidRequest} {
		wantErr(t, fmt.Sprint("resource ", i), kerr.ErrorForCode(resp.Resources[i].ErrorCode), want)
	}
	for value, want := range map[string]error{"1": kerr.InvalidConfig, "60000": nil} {
		alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
		alter.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
			ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "g",
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "consumer.session.timeout.ms", Value: &value}},
		}}
		altered, err := alter.RequestWith(ctx, cl)
		must(t, err)
		wantErr(t, "a session of "+value, kerr.ErrorForCode(altered.Resources[0].ErrorCode), want)
	}
	values := synonyms(t, cl, kmsg.ConfigResourceTypeGroupConfig, "g", "consumer.session.timeout.ms")
	want := []string{"consumer.session.timeout.ms=60000 of 8", "group.consumer.session.timeout.ms=45000 of 5"}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values of a group's configuration (-want +got):\n%s", diff)
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	all, err := list.RequestWith(ctx, cl)
	must(t, err)
	var got []string
	for _, r := range all.ConfigResources {
		got = append(got, fmt.Sprintf("%d %s", r.Type, r.Name))
	}
	if diff := cmp.Diff([]string{"2 t", "4 1", "8 1", "32 g"}, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// TestDeleteRecords: the new start is that of every later answer, and of the
// log after a power cut at once.
func TestDeleteRecords(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys, func(c *broker.Config) { c.AutoCreate = false })
	adm, cl := admin(t, b)
	ctx := within(t)
	_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "compacted")
	must(t, err)
	_, err = adm.CreateTopic(ctx, 1, 1, map[string]*string{"segment.bytes": kadm.StringPtr("100")}, "t")
	must(t, err)
	for i := range 10 {
		produce(t, cl, &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)})
	}
	produce(t, cl, &kgo.Record{Topic: "compacted", Key: []byte("k"), Value: []byte("v")})
	del := func(topic string, offset int64) (int64, error) {
		t.Helper()
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: offset}}}}
		resp, err := req.RequestWith(ctx, cl.Broker(1))
		must(t, err)
		p := resp.Topics[0].Partitions[0]
		return p.LowWatermark, kerr.ErrorForCode(p.ErrorCode)
	}
	for _, tt := range []struct {
		topic  string
		offset int64
		low    int64
		want   error
	}{
		{"t", 4, 4, nil}, {"t", 2, 4, nil}, {"t", 11, -1, kerr.OffsetOutOfRange}, {"t", -2, -1, kerr.OffsetOutOfRange},
		{"compacted", 1, -1, kerr.PolicyViolation}, {"none", 0, -1, kerr.UnknownTopicOrPartition},
	} {
		low, err := del(tt.topic, tt.offset)
		wantErr(t, fmt.Sprint(tt.topic, " to ", tt.offset), err, tt.want)
		if low != tt.low {
			t.Errorf("%s to %d: start is %d, want %d", tt.topic, tt.offset, low, tt.low)
		}
	}
	again := start(t, fsys.CrashClone())
	adm2, cl2 := admin(t, again)
	starts, err := adm2.ListStartOffsets(ctx, "t")
	must(t, err)
	if o, _ := starts.Lookup("t", 0); o.Offset != 4 {
		t.Errorf("the log starts at %d after a power cut, want 4", o.Offset)
	}
	cl2.AddConsumeTopics("t")
	if r := consume(t, cl2, 1)[0]; r.Offset != 4 || string(r.Value) != "4" {
		t.Errorf("first record: offset %d, value %s", r.Offset, r.Value)
	}
	if low, err := del("t", -1); low != 10 || err != nil {
		t.Errorf("delete all: start is %d (%v), want 10", low, err)
	}
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("next")})
}

func TestSpecialOffsets(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	adm, cl := admin(t, b)
	ctx := within(t)
	for i, ms := range []int64{100, 300, 200} {
		produce(t, cl, &kgo.Record{Topic: "t", Value: fmt.Append(nil, i), Timestamp: timeMs(ms)})
	}
	_, err := adm.CreateTopic(ctx, 1, 1, nil, "empty")
	must(t, err)
	ask := func(topic string, ms int64, version int16) (offset, at int64, err error) {
		t.Helper()
		req := kmsg.NewPtrListOffsetsRequest()
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = ms
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		old := client(t, b, kgo.MaxVersions(capped(kmsg.ListOffsets, version)))
		resp, err := req.RequestWith(ctx, old)
		must(t, err)
		p := resp.Topics[0].Partitions[0]
		return p.Offset, p.Timestamp, kerr.ErrorForCode(p.ErrorCode)
	}
	for _, tt := range []struct {
		topic       string
		ms          int64
		version     int16
		offset, got int64
		want        error
	}{
		{"t", -1, 11, 3, -1, nil}, {"t", -2, 11, 0, -1, nil}, {"t", -3, 11, 1, 300, nil}, {"t", -4, 11, 0, -1, nil},
		{"t", -5, 11, -1, -1, nil}, {"t", -6, 11, -1, -1, nil}, {"t", 150, 11, 1, 300, nil}, {"t", 301, 11, -1, -1, nil},
		{"t", -3, 6, -1, -1, kerr.UnsupportedVersion}, {"t", -4, 7, -1, -1, kerr.UnsupportedVersion}, {"t", -1, 1, 3, -1, nil},
		{"empty", -3, 11, -1, -1, nil}, {"empty", -1, 11, 0, -1, nil},
	} {
		offset, at, err := ask(tt.topic, tt.ms, tt.version)
		wantErr(t, fmt.Sprint(tt), err, tt.want)
		if offset != tt.offset || at != tt.got {
			t.Errorf("%s, timestamp %d, version %d: offset %d of %d, want %d of %d", tt.topic, tt.ms, tt.version, offset, at, tt.offset, tt.got)
		}
	}
}

func TestDescribeTopicPartitions(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	adm, cl := admin(t, b)
	ctx := within(t)
	for i, name := range []string{"a", "b", "c"} {
		_, err := adm.CreateTopic(ctx, int32(i+2), 1, nil, name)
		must(t, err)
	}
	page := func(limit int32, names ...string) (got []string) {
		t.Helper()
		var cursor *kmsg.DescribeTopicPartitionsRequestCursor
		for range 20 {
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.ResponsePartitionLimit, req.Cursor = limit, cursor
			for _, n := range names {
				req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: n})
			}
			resp, err := req.RequestWith(ctx, cl)
			must(t, err)
			told := 0
			for _, rt := range resp.Topics {
				told += len(rt.Partitions)
				if rt.ErrorCode != 0 {
					got = append(got, fmt.Sprint(*rt.Topic, " ", kerr.ErrorForCode(rt.ErrorCode).(*kerr.Error).Message))
				}
				for _, p := range rt.Partitions {
					got = append(got, fmt.Sprint(*rt.Topic, p.Partition))
				}
			}
			if limit > 0 && told > int(limit) {
				t.Errorf("%d partitions in one answer, want at most %d", told, limit)
			}
			if resp.NextCursor == nil {
				return got
			}
			cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
		}
		t.Fatalf("limit %d: no end", limit)
		return nil
	}
	all := []string{"a0", "a1", "b0", "b1", "b2", "c0", "c1", "c2", "c3"}
	for _, limit := range []int32{0, 1, 2, 3, 4, 5, 9, 100} {
		if diff := cmp.Diff(all, page(limit)); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
	want := []string{"a0", "a1", "c0", "c1", "c2", "c3", "none UNKNOWN_TOPIC_OR_PARTITION"}
	if diff := cmp.Diff(want, page(2, "none", "c", "a", "a")); diff != "" {
		t.Errorf("by name (-want +got):\n%s", diff)
	}
}

// TestClusterOfOne: requests that only make sense among several brokers are
// answered so that tools go on.
func TestClusterOfOne(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	adm, cl := admin(t, b)
	ctx := within(t)
	_, err := adm.CreateTopics(ctx, 2, 1, nil, "t", "u")
	must(t, err)
	var parts kadm.TopicsSet
	parts.Add("t", 0, 7)
	elected, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, parts)
	must(t, err)
	wantErr(t, "elect", elected["t"][0].Err, kerr.ElectionNotNeeded)
	wantErr(t, "elect for no partition", elected["t"][7].Err, kerr.UnknownTopicOrPartition)
	var move kadm.AlterPartitionAssignmentsReq
	move.Assign("t", 0, []int32{1})
	move.Assign("t", 1, []int32{1, 2})
	move.CancelAssign("t", 0)
	moved, err := adm.AlterPartitionAssignments(ctx, move)
	must(t, err)
	wantErr(t, "cancel", moved["t"][0].Err, kerr.NoReassignmentInProgress)
	wantErr(t, "move", moved["t"][1].Err, kerr.InvalidReplicaAssignment)
	moving, err := adm.ListPartitionReassignments(ctx, nil)
	if err != nil || len(moving) != 0 {
		t.Errorf("reassignments %v (%v)", moving, err)
	}
	one, rates := "0:1", "1000"
	throttled := []kadm.AlterConfig{ // what kafka-reassign-partitions --throttle sets first
		{Op: kadm.SetConfig, Name: "leader.replication.throttled.replicas", Value: &one},
		{Op: kadm.AppendConfig, Name: "follower.replication.throttled.replicas", Value: &one},
	}
	altered, err := adm.AlterTopicConfigs(ctx, throttled, "t")
	must(t, err)
	wantErr(t, "throttle replicas", altered[0].Err, nil)
	configs, err := adm.DescribeTopicConfigs(ctx, "t")
	must(t, err)
	for _, c := range configs[0].Configs {
		if strings.HasSuffix(c.Key, ".throttled.replicas") && c.MaybeValue() != one {
			t.Errorf("%s is %q", c.Key, c.MaybeValue())
		}
	}
	rate, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Name: "leader.replication.throttled.rate", Value: &rates}}, 1)
	must(t, err)
	wantErr(t, "throttle the broker", rate[0].Err, nil)
	produce(t, cl, &kgo.Record{Topic: "t", Value: make([]byte, 100)})
	dirs, err := adm.DescribeAllLogDirs(ctx, nil)
	must(t, err)
	if got := dirs[1].Size(); got < 50 || got > 400 {
		t.Errorf("logs take %d bytes, want about 100", got)
	}
	for _, d := range dirs[1] {
		if d.TotalBytes != 1<<50 || d.UsableBytes <= 0 || d.UsableBytes >= d.TotalBytes {
			t.Errorf("directory %s: %d bytes, of which %d are usable", d.Dir, d.TotalBytes, d.UsableBytes)
		}
	}
	var to kadm.AlterReplicaLogDirsReq
	to.Add("topics", parts)
	to.Add("elsewhere", kadm.TopicsSet{"u": {0: {}}})
	placed, err := adm.AlterBrokerReplicaLogDirs(ctx, 1, to)
	must(t, err)
	wantErr(t, "the directory of all", placed["t"][0].Err, nil)
	wantErr(t, "place no partition", placed["t"][7].Err, kerr.UnknownTopicOrPartition)
	wantErr(t, "another directory", placed["u"][0].Err, kerr.LogDirNotFound)
	req := kmsg.NewPtrDescribeClusterRequest()
	req.EndpointType = 2
	resp, err := req.RequestWith(ctx, cl)
	must(t, err)
	wantErr(t, "controllers", kerr.ErrorForCode(resp.ErrorCode), kerr.MismatchedEndpointType)
	req.EndpointType, req.IncludeClusterAuthorizedOperations = 1, true
	resp, err = req.RequestWith(ctx, cl)
	must(t, err)
	if len(resp.Brokers) != 1 || resp.ControllerID != 1 || resp.ClusterAuthorizedOperations <= 0 {
		t.Errorf("cluster %+v", resp)
	}
}

// TestQuorumOfOne: what tools ask of the controllers.
func TestQuorumOfOne(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	req := kmsg.NewPtrDescribeQuorumRequest()
	for _, name := range []string{"__cluster_metadata", "t"} {
		req.Topics = append(req.Topics, kmsg.DescribeQuorumRequestTopic{Topic: name, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}})
	}
	resp, err := req.RequestWith(within(t), client(t, b))
	must(t, err)
	wantErr(t, "the quorum", kerr.ErrorForCode(resp.ErrorCode), nil)
	meta, other := resp.Topics[0].Partitions[0], resp.Topics[1].Partitions[0]
	if meta.ErrorCode != 0 || meta.LeaderID != 1 || meta.LeaderEpoch < 1 || len(meta.CurrentVoters) != 1 || meta.CurrentVoters[0].ReplicaID != 1 {
		t.Errorf("the metadata's quorum: %+v", meta)
	}
	wantErr(t, "another topic", kerr.ErrorForCode(other.ErrorCode), kerr.UnknownTopicOrPartition)
	if len(resp.Nodes) != 1 || resp.Nodes[0].NodeID != 1 {
		t.Errorf("nodes %+v", resp.Nodes)
	}
}

func TestDescribeProducers(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	cl := client(t, b)
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
	resp, err := req.RequestWith(within(t), cl.Broker(1))
	must(t, err)
	parts := resp.Topics[0].Partitions
	wantErr(t, "no partition", kerr.ErrorForCode(parts[1].ErrorCode), kerr.UnknownTopicOrPartition)
	for _, p := range parts[0].ActiveProducers {
		if p.LastSequence != 0 || p.CurrentTxnStartOffset != -1 || p.LastTimestamp <= 0 {
			t.Errorf("producer %+v", p)
		}
	}
	if n := len(parts[0].ActiveProducers); n != 1 {
		t.Errorf("%d producers, want 1", n)
	}
}

func TestUpdateFeatures(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys)
	_, cl := admin(t, b)
	ctx := within(t)
	levels := func(cl *kgo.Client) map[string]int16 {
		t.Helper()
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "test", "1"
		resp, err := req.RequestWith(ctx, cl)
		must(t, err)
		got := map[string]int16{}
		for _, f := range resp.SupportedFeatures {
			got[f.Name] = 0
		}
		for _, f := range resp.FinalizedFeatures {
			got[f.Name] = f.MaxVersionLevel
		}
		return got
	}
	update := func(name string, level int16, kind int8) error {
		t.Helper()
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.FeatureUpdates = []kmsg.UpdateFeaturesRequestFeatureUpdate{{Feature: name, MaxVersionLevel: level, UpgradeType: kind}}
		resp, err := req.RequestWith(ctx, cl)
		must(t, err)
		return kerr.ErrorForCode(resp.ErrorCode)
	}
	wantErr(t, "unknown", update("no.such", 1, 1), kerr.InvalidUpdateVersion)
	const name = "transaction.version"
	if got := levels(cl)[name]; got != 2 {
		t.Errorf("%s is at level %d on a new box, want 2", name, got)
	}
	wantErr(t, "too high", update(name, 99, 1), kerr.InvalidUpdateVersion)
	wantErr(t, "down without saying so", update(name, 0, 1), kerr.InvalidUpdateVersion)
	wantErr(t, "down", update(name, 0, 2), nil)
	b.stop()
	_, cl = admin(t, start(t, fsys))
	if got := levels(cl)[name]; got != 0 {
		t.Errorf("%s is at level %d after a restart, want 0", name, got)
	}
	wantErr(t, "up", update(name, 1, 1), nil)
	if got := levels(cl)[name]; got != 1 {
		t.Errorf("%s is at level %d, want 1", name, got)
	}
}

// TestManyTopics: a request for ten thousand topics is answered.
func TestManyTopics(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of topics")
	}
	const n = 10000
	b := start(t, vfs.NewCrashable(1))
	adm, _ := admin(t, b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("sensors.building-%d.temperature", i))
	}
	made, err := adm.CreateTopics(ctx, 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000")}, names...)
	must(t, err)
	must(t, made.Error())
	topics, err := adm.ListTopics(ctx, names...)
	must(t, err)
	if len(topics) != n || topics.Error() != nil {
		t.Errorf("%d topics (%v)", len(topics), topics.Error())
	}
	configs, err := adm.DescribeTopicConfigs(ctx, names...)
	must(t, err)
	if len(configs) != n || configs[n-1].Err != nil {
		t.Errorf("%d configurations", len(configs))
	}
	set, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("2000")}}, names...)
	must(t, err)
	if len(set) != n || set[n-1].Err != nil {
		t.Errorf("%d altered", len(set))
	}
	gone, err := adm.DeleteTopics(ctx, names...)
	must(t, err)
	must(t, gone.Error())
	if topics, err := adm.ListTopics(ctx); err != nil || len(topics) != 0 {
		t.Errorf("%s are left (%v)", strings.Join(topics.Names()[:min(3, len(topics))], ", "), err)
	}
}

func timeMs(ms int64) time.Time { return time.UnixMilli(ms) }

// capped are today's versions with one key's lowered.
func capped(key kmsg.Key, version int16) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(key.Int16(), version)
	return v
}
