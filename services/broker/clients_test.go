package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// TestRecordsIntact: keys, values, headers and timestamps come back as they
// went in, in order, after a restart too.
func TestRecordsIntact(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	b := start(t, fsys)
	var want []string
	cl := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 100 {
		r := &kgo.Record{
			Topic: "t", Key: fmt.Appendf(nil, "k%d", i%7), Value: bytes.Repeat([]byte{byte(i)}, i*10),
			Timestamp: time.UnixMilli(int64(1_700_000_000_000 + i)),
			Headers:   []kgo.RecordHeader{{Key: "h", Value: []byte{byte(i)}}, {Key: "empty"}},
		}
		if i%10 == 0 {
			r.Key, r.Value = nil, nil
		}
		produce(t, cl, r)
		want = append(want, show(r))
	}
	check := func(b *running) {
		t.Helper()
		var got []string
		for _, r := range consume(t, client(t, b, kgo.ConsumeTopics("t")), 100) {
			got = append(got, show(r))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("records (-sent +received):\n%s", diff)
		}
	}
	check(b)
	must(t, b.stop())
	check(start(t, fsys))
}

func show(r *kgo.Record) string {
	return fmt.Sprintf("%d %q %x %v %d", r.Offset, r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli())
}

// TestCompression: batches of every codec lie in the log as they were sent,
// and come back.
func TestCompression(t *testing.T) {
	dir := t.TempDir()
	b := start(t, vfs.OS(dir))
	value := strings.Repeat("compress me ", 1000)
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			produce(t, client(t, b, kgo.ProducerBatchCompression(codec)), &kgo.Record{Topic: name, Value: []byte(value)})
			got := consume(t, client(t, b, kgo.ConsumeTopics(name)), 1)
			if string(got[0].Value) != value {
				t.Errorf("value differs: %d bytes", len(got[0].Value))
			}
			n := dirBytes(t, dir, name)
			if small := n < int64(len(value)/2); small != (name != "none") {
				t.Errorf("%d bytes of values take %d bytes on disk", len(value), n)
			}
		})
	}
}

func TestGroupRebalancesAndResumes(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	b := start(t, fsys, func(c *broker.Config) { c.Topics = []site.Topic{{Name: "t", Partitions: 4}} })
	member := func(b *running) *kgo.Client {
		return client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(),
			kgo.HeartbeatInterval(50*time.Millisecond), kgo.SessionTimeout(3*time.Second))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	// work consumes and commits until ctx ends, and says how much it got.
	work := func(ctx context.Context, cl *kgo.Client) (n int) {
		for ctx.Err() == nil {
			fs := cl.PollFetches(ctx)
			mu.Lock()
			for _, r := range fs.Records() {
				seen[string(r.Value)]++
				n++
			}
			mu.Unlock()
			if err := cl.CommitUncommittedOffsets(within(t)); err != nil {
				t.Logf("commit: %v", err)
			}
		}
		return n
	}
	put := func(b *running, from, to int) {
		cl := client(t, b)
		for i := from; i < to; i++ {
			produce(t, cl, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)})
		}
	}
	one, two := member(b), member(b)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	counts := [2]int{}
	for i, cl := range []*kgo.Client{one, two} {
		wg.Go(func() { counts[i] = work(ctx, cl) })
	}
	awaitMembers(t, b, 2)
	put(b, 0, 100)
	eventually(t, "both members get everything", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 100 })
	cancel()
	wg.Wait()
	if counts[0] == 0 || counts[1] == 0 {
		t.Errorf("members got %v records, want both to have some", counts)
	}
	one.Close()
	two.Close()
	must(t, b.stop())

	b = start(t, fsys)
	put(b, 100, 150)
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	cl := member(b)
	wg.Go(func() { work(ctx, cl) })
	eventually(t, "a new member goes on", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 150 })
	cancel()
	wg.Wait()
	for v, n := range seen {
		if n != 1 {
			t.Errorf("record %s was consumed %d times, want once: commits were made after every poll", v, n)
		}
	}
}

func awaitMembers(t *testing.T, b *running, n int) {
	t.Helper()
	adm := kadm.NewClient(client(t, b))
	eventually(t, fmt.Sprint(n, " members are stable"), func() bool {
		gs, err := adm.DescribeGroups(within(t), "g")
		return err == nil && gs["g"].State == "Stable" && len(gs["g"].Members) == n
	})
}

// eventually waits for a condition with a deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in time this never was: %s", what)
		}
	}
}

func TestAdmin(t *testing.T) {
	b := start(t, vfs.NewCrashable(1), func(c *broker.Config) { c.AutoCreate = false })
	adm := kadm.NewClient(client(t, b))
	ctx := within(t)
	resp, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": kadm.StringPtr("1000")}, "a")
	must(t, err)
	if resp.NumPartitions != 3 || resp.ID == (kadm.TopicID{}) {
		t.Errorf("created: %+v", resp)
	}
	for name, tt := range map[string]struct {
		do   func() error
		want error
	}{
		"again":         {func() error { _, err := adm.CreateTopic(ctx, 1, 1, nil, "a"); return err }, kerr.TopicAlreadyExists},
		"bad name":      {func() error { _, err := adm.CreateTopic(ctx, 1, 1, nil, "a b"); return err }, kerr.InvalidTopicException},
		"four copies":   {func() error { _, err := adm.CreateTopic(ctx, 1, 4, nil, "b"); return err }, kerr.InvalidReplicationFactor},
		"no partitions": {func() error { _, err := adm.CreateTopic(ctx, 0, 1, nil, "b"); return err }, kerr.InvalidPartitions},
		"bad config": {func() error {
			_, err := adm.CreateTopic(ctx, 1, 1, map[string]*string{"x": kadm.StringPtr("y")}, "b")
			return err
		}, kerr.InvalidConfig},
		"delete unknown": {func() error { _, err := adm.DeleteTopic(ctx, "b"); return err }, kerr.UnknownTopicOrPartition},
	} {
		if err := tt.do(); err != tt.want && !isWrapped(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	parts, err := adm.UpdatePartitions(ctx, 5, "a")
	must(t, err)
	must(t, parts.Error())
	configs, err := adm.DescribeTopicConfigs(ctx, "a")
	must(t, err)
	got := map[string]string{}
	for _, c := range configs[0].Configs {
		got[c.Key] = c.MaybeValue()
	}
	if got["retention.ms"] != "1000" || got["cleanup.policy"] != "delete" {
		t.Errorf("configuration: %v", got)
	}
	md, err := adm.Metadata(ctx)
	must(t, err)
	if len(md.Topics["a"].Partitions) != 5 || md.Controller != 1 || md.Cluster == "" || md.Brokers[0].NodeID != 1 {
		t.Errorf("metadata: %+v", md)
	}
	_, err = adm.DeleteTopic(ctx, "a")
	must(t, err)
	fresh := kadm.NewClient(client(t, b)) // a client keeps metadata for a while
	if md, err = fresh.Metadata(ctx); err != nil || len(md.Topics) != 0 {
		t.Errorf("after deletion: %+v, %v", md.Topics, err)
	}
}

func isWrapped(err, want error) bool {
	return err != nil && want != nil && strings.Contains(err.Error(), want.Error())
}

func TestListOffsets(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	var recs []*kgo.Record
	for i := range 10 {
		recs = append(recs, &kgo.Record{Topic: "t", Value: []byte("v"), Timestamp: time.UnixMilli(int64(1000 + 10*i))})
	}
	produce(t, cl, recs...)
	adm := kadm.NewClient(cl)
	for name, tt := range map[string]struct {
		list func() (kadm.ListedOffsets, error)
		want int64
	}{
		"start": {func() (kadm.ListedOffsets, error) { return adm.ListStartOffsets(within(t), "t") }, 0},
		"end":   {func() (kadm.ListedOffsets, error) { return adm.ListEndOffsets(within(t), "t") }, 10},
		"time":  {func() (kadm.ListedOffsets, error) { return adm.ListOffsetsAfterMilli(within(t), 1045, "t") }, 5},
	} {
		got, err := tt.list()
		must(t, err)
		if o, _ := got.Lookup("t", 0); o.Err != nil || o.Offset != tt.want {
			t.Errorf("%s: got %+v, want offset %d", name, o, tt.want)
		}
	}
}

func TestLongPoll(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	cl := client(t, b, kgo.ConsumeTopics("t"), kgo.FetchMaxWait(15*time.Second))
	produce(t, client(t, b), &kgo.Record{Topic: "t", Value: []byte("first")})
	consume(t, cl, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		consume(t, cl, 1)
	}()
	produce(t, client(t, b), &kgo.Record{Topic: "t", Value: []byte("second")})
	<-done
	// A stop does not wait for the long poll that is under way.
	begin := time.Now()
	must(t, b.stop())
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("the stop took %v", d)
	}
}

func TestAcks(t *testing.T) {
	for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		t.Run(name, func(t *testing.T) {
			b := start(t, vfs.NewCrashable(1))
			cl := client(t, b, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
			produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
			consume(t, client(t, b, kgo.ConsumeTopics("t")), 1)
		})
	}
}
