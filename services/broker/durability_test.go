package broker_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// TestAcknowledgedSurvivesPowerCut pulls the plug while real clients produce
// through the whole protocol.
func TestAcknowledgedSurvivesPowerCut(t *testing.T) {
	for seed := range uint64(5) {
		fsys := vfs.NewCrashable(seed)
		var acked []string
		for range 3 {
			b := start(t, fsys)
			acked = append(acked, cutWhileProducing(t, b, len(acked))...)
			fsys = fsys.Crash()
			b.stop()
		}
		b := start(t, fsys)
		got := map[string]int{}
		for _, r := range consumeAll(t, b, "t") {
			got[string(r.Value)]++
		}
		for _, v := range acked {
			if got[v] != 1 {
				t.Errorf("seed %d: acknowledged record %s is there %d times, want once", seed, v, got[v])
			}
		}
		b.stop()
	}
}

// cutWhileProducing returns what was acknowledged before the caller cuts.
func cutWhileProducing(t *testing.T, b *running, from int) []string {
	cl := client(t, b)
	defer cl.Close()
	var mu sync.Mutex
	var acked []string
	enough := make(chan struct{})
	for i := range 300 {
		r := &kgo.Record{Topic: "t", Value: fmt.Appendf(nil, "%s-%d-%d", b.addr, from, i)}
		cl.Produce(t.Context(), r, func(r *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				return
			}
			if acked = append(acked, string(r.Value)); len(acked) == 100 {
				close(enough)
			}
		})
	}
	<-enough
	mu.Lock()
	defer mu.Unlock()
	return append([]string(nil), acked...)
}

// consumeAll reads a topic of one partition from its start to its end.
func consumeAll(t *testing.T, b *running, topic string) []*kgo.Record {
	t.Helper()
	cl := client(t, b)
	end := endOffset(t, cl, topic)
	return consume(t, client(t, b, kgo.ConsumeTopics(topic)), int(end))
}

func TestCommitSurvivesPowerCut(t *testing.T) {
	for seed := range uint64(5) {
		fsys := vfs.NewCrashable(seed)
		b := start(t, fsys)
		// Who never comes back is waited for, after the restart too.
		cl := client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(),
			kgo.SessionTimeout(time.Second), kgo.HeartbeatInterval(100*time.Millisecond))
		for i := range 10 {
			produce(t, cl, &kgo.Record{Topic: "t", Value: fmt.Append(nil, i)})
		}
		recs := consume(t, cl, 10)
		must(t, cl.CommitRecords(within(t), recs[:6]...))
		fsys = fsys.Crash()
		b.stop()
		b = start(t, fsys)
		got := consume(t, client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t")), 1)
		if string(got[0].Value) != "6" {
			t.Errorf("seed %d: the group goes on at %s, want 6", seed, got[0].Value)
		}
		b.stop()
	}
}

// TestFailedSync: the client is told, the partition turns read-only, others
// go on, and the report says so.
func TestFailedSync(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	b := start(t, fsys)
	cl := client(t, b, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.UnknownTopicRetries(0))
	produce(t, cl, &kgo.Record{Topic: "bad", Value: []byte("v")}, &kgo.Record{Topic: "good", Value: []byte("v")})
	fsys.SetHook(vfs.FailNth(vfs.OpSync, "topics/bad-0/*", 1, syscall.EIO, false))
	err := cl.ProduceSync(within(t), &kgo.Record{Topic: "bad", Value: []byte("lost")}).FirstErr()
	if !isWrapped(err, kerr.KafkaStorageError) {
		t.Errorf("produce to the bad partition: got %v, want KAFKA_STORAGE_ERROR", err)
	}
	produce(t, cl, &kgo.Record{Topic: "good", Value: []byte("w")})
	if got := consumeAll(t, b, "bad"); len(got) != 1 || string(got[0].Value) != "v" {
		t.Errorf("reading the bad partition: %d records", len(got))
	}
	if s := b.Status(); s.OK || len(s.Facts) == 0 || s.Facts[0].Name != "bad-0 is read-only" {
		t.Errorf("status: %+v", s)
	}
	if err := b.Healthy(); err != nil {
		t.Errorf("healthy: %v; one bad partition is no reason to restart", err)
	}
}

// TestRecordsOfNoTopic: the report says that there are records which nobody can
// read, of a topic that a state does not know which has lost nothing.
func TestRecordsOfNoTopic(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	must(t, start(t, fsys, func(c *broker.Config) { c.Topics = []site.Topic{{Name: "known"}} }).stop())
	must(t, fsys.MkdirAll("topics/lost-0"))
	f, err := fsys.Create("topics/lost-0/00000000000000000000.log")
	must(t, err)
	_, err = f.WriteAt([]byte("records"), 0)
	must(t, err)
	b := start(t, fsys)
	if s := b.Status(); s.OK || !strings.Contains(s.Facts[0].Value, "topics/lost-0") {
		t.Errorf("status: %+v", s)
	}
}

// TestFullDisk: producers are refused with an error that they retry, commits
// go on, and so does everything when there is room again.
func TestFullDisk(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	fsys.SetCapacity(1 << 20)
	b := start(t, fsys, func(c *broker.Config) { c.Limits.DiskReserve = 200 << 10 })
	cl := client(t, b, kgo.RecordRetries(0), kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit())
	big := &kgo.Record{Topic: "t", Value: make([]byte, 100<<10)}
	var err error
	for range 50 {
		if err = cl.ProduceSync(within(t), &kgo.Record{Topic: big.Topic, Value: big.Value}).FirstErr(); err != nil {
			break
		}
	}
	if !isWrapped(err, kerr.KafkaStorageError) {
		t.Fatalf("full disk: got %v, want KAFKA_STORAGE_ERROR", err)
	}
	if s := b.Status(); s.OK {
		t.Errorf("status of a full disk: %+v", s)
	}
	recs := consume(t, cl, 5)
	must(t, cl.CommitRecords(within(t), recs...))
	fsys.SetCapacity(0)
	eventually(t, "producing goes on", func() bool {
		return cl.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: []byte("small")}).FirstErr() == nil
	})
	if s := b.Status(); !s.OK {
		t.Errorf("status with room again: %+v", s)
	}
}

// TestNoTwoBrokersOnOneFolder keeps a second process from writing over the
// first one's log.
func TestNoTwoBrokersOnOneFolder(t *testing.T) {
	fsys := vfs.OS(t.TempDir())
	start(t, fsys)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b, err := broker.New(broker.Config{FS: fsys, Listeners: []net.Listener{ln}})
	must(t, err)
	if err := b.Run(t.Context()); err == nil {
		t.Error("a second broker ran on the same folder")
	}
}
