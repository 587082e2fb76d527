package replicator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/site"
)

// values reads want records of a topic's partition 0, in order.
func values(t *testing.T, addrs []string, topic string, want int) (rs []*kgo.Record) {
	t.Helper()
	cl := client(t, addrs, kgo.ConsumeTopics(topic), kgo.FetchMaxWait(200*time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for len(rs) < want && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { rs = append(rs, r) })
	}
	return rs
}

func texts(rs []*kgo.Record) (out []string) {
	for _, r := range rs {
		out = append(out, string(r.Value))
	}
	return out
}

func produce(t *testing.T, addrs []string, rs ...*kgo.Record) {
	t.Helper()
	if err := client(t, addrs).ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// One topic is carried by two rules: alarms as they are, and a summary of
// every ten seconds; through stops in between, each record once.
func TestRules(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Topics = nil
	cfg.Links[0].Rules = []site.LinkRule{
		{Name: "alarms", Topics: []string{"sensors"}, To: "{site}.alarms", Priority: site.High, Where: []site.Condition{{Field: "t", Above: "95"}}, Fields: []string{"t"}},
		{Name: "summary", Topics: []string{"sensors"}, To: "summary.{topic}", Window: &site.LinkWindow{Every: "10s", Fields: []string{"t"}, Functions: []string{"count", "max"}}},
	}
	cl := client(t, src.ListenAddrs())
	_, stop := start(t, cfg)
	for n := range 300 {
		rec := &kgo.Record{Topic: "sensors", Key: []byte("k"), Value: fmt.Appendf(nil, `{"t":%d,"x":1}`, n%100), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n)*1000)}
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if n%71 == 70 {
			values(t, dst.ListenAddrs(), "summary.sensors", n/10-1)
			stop()
			_, stop = start(t, cfg)
		}
	}
	var want []string
	for n := range 300 {
		if n%100 > 95 {
			want = append(want, fmt.Sprintf(`{"t":%d}`, n%100))
		}
	}
	if diff := cmp.Diff(want, texts(values(t, dst.ListenAddrs(), "shop.alarms", len(want)))); diff != "" {
		t.Errorf("alarms (-want +got):\n%s", diff)
	}
	want = nil
	for n := range 30 { // the last one is closed since nothing more comes
		from := 1_700_000_000_000 + int64(n)*10_000
		want = append(want, fmt.Sprintf(`{"count":10,"from":%d,"t":{"max":%d},"to":%d}`, from, n%10*10+9, from+10_000))
	}
	if diff := cmp.Diff(want, texts(values(t, dst.ListenAddrs(), "summary.sensors", len(want)))); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
}

// What can never be carried is put aside on the box, with the reason, and
// what comes after it is carried.
func TestDeadLetters(t *testing.T) {
	for name, exact := range map[string]bool{exactlyOnce: true, atLeastOnce: false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
			if !exact {
				noTransactions(dst)
			}
			dst.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				dst.KeepControl()
				req := r.(*kmsg.ProduceRequest)
				return refusing(req, "poison"), nil, refusing(req, "poison") != nil
			})
			var rs []*kgo.Record
			var want []string
			for n := range 100 {
				v := fmt.Sprint("record ", n)
				if n == 37 || n == 38 || n == 99 {
					v = fmt.Sprint("poison ", n)
				} else {
					want = append(want, v)
				}
				rs = append(rs, &kgo.Record{Topic: "sensors", Key: []byte("k"), Value: []byte(v), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}})
			}
			produce(t, src.ListenAddrs(), rs...)
			cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
			cfg.Links[0].Compression = "none" // the stand-in looks into batches
			start(t, cfg)
			if diff := cmp.Diff(want, texts(values(t, dst.ListenAddrs(), "sensors", len(want)))); diff != "" {
				t.Errorf("carried (-want +got):\n%s", diff)
			}
			var got []string
			for _, r := range values(t, src.ListenAddrs(), "dead-letters.hq", 3) {
				h := map[string]string{}
				for _, kv := range r.Headers {
					h[kv.Key] = string(kv.Value)
				}
				got = append(got, fmt.Sprintf("%s %s %s/%s@%s %v", r.Value, h["h"], h["wayside-dead-topic"], h["wayside-dead-partition"], h["wayside-dead-offset"],
					strings.Contains(h["wayside-dead-error"], "INVALID_RECORD")))
			}
			if diff := cmp.Diff([]string{"poison 37 1 sensors/0@37 true", "poison 38 1 sensors/0@38 true", "poison 99 1 sensors/0@99 true"}, got); diff != "" {
				t.Errorf("dead letters (-want +got):\n%s", diff)
			}
		})
	}
}

// A summary that the destination refuses is no fault of the record that closed its
// window: nothing is put aside, the partition waits and says why, and the same
// summaries follow once they are taken.
func TestRefusedSummary(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	var takes atomic.Bool
	dst.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		dst.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if takes.Load() {
			return nil, nil, false
		}
		return refusing(req, `"count"`), nil, refusing(req, `"count"`) != nil
	})
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Topics, cfg.Links[0].Compression = nil, "none" // the stand-in looks into batches
	cfg.Links[0].Rules = []site.LinkRule{{Name: "tens", Topics: []string{"sensors"}, To: "{topic}.10s", Window: &site.LinkWindow{Every: "10s", Functions: []string{"count"}}}}
	for n := range int64(31) {
		produce(t, src.ListenAddrs(), &kgo.Record{Topic: "sensors", Key: []byte("k"), Value: []byte("1"), Timestamp: time.UnixMilli(1_700_000_000_000 + n*1000)})
	}
	r, _ := start(t, cfg)
	eventually(t, "the status says why it waits", func() bool { return strings.Contains(linkOf(r).Error, "a summary is refused") })
	takes.Store(true)
	sums := values(t, dst.ListenAddrs(), "sensors.10s", 3)
	for i := range 3 {
		if i >= len(sums) || !strings.Contains(string(sums[i].Value), `"count":10`) {
			t.Errorf("summaries %q, want three of 10 records", texts(sums))
		}
	}
	if src.TopicInfo("dead-letters.hq") != nil {
		t.Error("a record was put aside")
	}
}

// refusing answers a produce request that has a word in a batch.
func refusing(req *kmsg.ProduceRequest, word string) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	bad := false
	for _, topic := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition = p.Partition
			if strings.Contains(string(p.Records), word) {
				rp.ErrorCode, bad = kerr.InvalidRecord.Code, true
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if !bad {
		return nil
	}
	return resp
}

// Commands come down, answers go up, and nothing goes round in between,
// though both links name every topic.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	box, hq := cluster(t, kfake.SeedTopics(1, "answers")), cluster(t, kfake.SeedTopics(2, "commands"))
	cfg := config(box.ListenAddrs(), hq.ListenAddrs()...)
	cfg.Links[0].Topics = []string{"*"}
	down := cfg.Links[0]
	down.Name, down.Direction = "down", site.Down
	cfg.Links = append(cfg.Links, down)
	r, _ := start(t, cfg)
	produce(t, hq.ListenAddrs(), &kgo.Record{Topic: "commands", Partition: 1, Value: []byte("open")})
	if got := texts(values(t, box.ListenAddrs(), "commands", 1)); !slices.Equal(got, []string{"open"}) {
		t.Fatalf("commands on the box: %v", got)
	}
	produce(t, box.ListenAddrs(), &kgo.Record{Topic: "answers", Value: []byte("opened")})
	got := values(t, hq.ListenAddrs(), "answers", 1)
	if !slices.Equal(texts(got), []string{"opened"}) {
		t.Fatalf("answers at the centre: %v", texts(got))
	}
	eventually(t, "both links have nothing more to carry", func() bool {
		for _, l := range r.Status().Links {
			if !l.Up || l.Lag > 0 {
				return false
			}
		}
		for _, l := range r.links {
			l.mu.Lock()
			n := len(l.parts)
			l.mu.Unlock()
			if n < 3 { // both topics are seen on both sides
				return false
			}
		}
		return true
	})
	for name, c := range map[string]*kfake.Cluster{"box": box, "centre": hq} {
		for _, topic := range []string{"commands", "answers"} {
			if n := len(values2(t, c.ListenAddrs(), topic)); n != 1 {
				t.Errorf("%s at the %s has %d records, want 1: they go round", topic, name, n)
			}
		}
	}
}

// values2 are all records that a topic has now.
func values2(t *testing.T, addrs []string, topic string) []*kgo.Record {
	t.Helper()
	cl := client(t, addrs)
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	all := client(t, addrs, kgo.ConsumeTopics(topic), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	var rs []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for seen := 0; seen < n && ctx.Err() == nil; {
		all.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			seen++
			if !r.Attrs.IsControl() {
				rs = append(rs, r)
			}
		})
	}
	return rs
}

func TestConfigurationFollows(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t), cluster(t)
	compact, big, days := "compact", "2000000", "86400000"
	adm := kadm.NewClient(client(t, src.ListenAddrs()))
	if _, err := adm.CreateTopic(t.Context(), 2, 1, map[string]*string{"cleanup.policy": &compact, "retention.ms": &days}, "sensors"); err != nil {
		t.Fatal(err)
	}
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].TopicConfig = map[string]string{"min.insync.replicas": "1"}
	cfg.Links[0].Rules = []site.LinkRule{{Name: "again", Topics: []string{"sensors"}, To: "again"}} // another way of the same
	start(t, cfg)
	there := kadm.NewClient(client(t, dst.ListenAddrs()))
	has := func(topic string, want map[string]string) func() bool {
		return func() bool {
			got, err := there.DescribeTopicConfigs(t.Context(), topic)
			if err != nil || len(got) != 1 || got[0].Err != nil {
				return false
			}
			set := map[string]string{}
			for _, c := range got[0].Configs {
				if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
					set[c.Key] = c.MaybeValue()
				}
			}
			return cmp.Equal(want, set)
		}
	}
	for _, topic := range []string{"sensors", "again"} {
		eventually(t, topic+" is made as it is at the source", has(topic, map[string]string{"cleanup.policy": "compact", "min.insync.replicas": "1"}))
	}
	if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &big}, {Name: "cleanup.policy", Op: kadm.DeleteConfig}}, "sensors"); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"sensors", "again"} {
		eventually(t, "a change follows to "+topic, has(topic, map[string]string{"max.message.bytes": "2000000", "min.insync.replicas": "1"}))
	}
}

// A link from the box to itself makes summaries there. Its group stands before
// the window that is still open: what is before may go (wayside.full=drop-read).
func TestSummariesOnTheBox(t *testing.T) {
	t.Parallel()
	box := cluster(t, kfake.SeedTopics(1, "sensors"))
	cfg := config(box.ListenAddrs(), box.ListenAddrs()...)
	cfg.Links[0].Topics = nil
	cfg.Links[0].Rules = []site.LinkRule{{Name: "tens", Topics: []string{"sensors"}, To: "{topic}.10s", Window: &site.LinkWindow{Every: "10s", Functions: []string{"count"}}}}
	_, stop := start(t, cfg)
	now := time.Now().UnixMilli()
	first := now - now%10_000 + 10_000 // of the window that is open, for ten seconds at least
	for n := range int64(30) {
		produce(t, box.ListenAddrs(), &kgo.Record{Topic: "sensors", Key: []byte("k"), Value: []byte("1"), Timestamp: time.UnixMilli(first - 25_000 + n*1000)})
	}
	sums := values(t, box.ListenAddrs(), "sensors.10s", 3)
	for i, want := range []string{`"count":5`, `"count":10`, `"count":10`} {
		if i >= len(sums) || !strings.Contains(string(sums[i].Value), want) {
			t.Errorf("summaries %q, want %s in %d", texts(sums), want, i)
		}
	}
	stop()
	if at := committed(t, box.ListenAddrs(), groupPrefix+"hq.tens", "sensors", func(int64) bool { return true }); at != 25 {
		t.Errorf("the group stands at %d, want 25, the first of the open window", at)
	}
}
