// Package broker checks the edge broker from outside: stock clients of two
// families against a booted box.
package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// restored is a box that is ready, and the address of its broker.
func restored(t *testing.T) string {
	t.Helper()
	harness.NeedVM(t)
	return harness.Restore(t, harness.Build(t, "")).Addr("kafka")
}

func TestKcatListsTheBroker(t *testing.T) {
	addr := restored(t)
	if out := harness.Kcat(t, addr, "", "-L"); !strings.Contains(out, addr) {
		t.Errorf("got %q, want a broker at %s", out, addr)
	}
}

// TestBothProduceBothConsume has librdkafka and franz-go write one topic and
// each read what both wrote.
func TestBothProduceBothConsume(t *testing.T) {
	addr := restored(t)
	const topic = "cross"
	harness.CreateTopic(t, addr, topic, 1)
	var lines, want []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("k%d:kcat %d", i%7, i))
		want = append(want, fmt.Sprintf("k%d|kcat %d|origin=kcat", i%7, i))
	}
	harness.Kcat(t, addr, strings.Join(lines, "\n")+"\n", "-P", "-t", topic, "-p", "0", "-K:", "-H", "origin=kcat", "-X", "acks=all")

	client := harness.Client(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	stamp := time.UnixMilli(1_700_000_000_123)
	for i := range 100 {
		err := client.ProduceSync(t.Context(), &kgo.Record{
			Topic: topic, Key: []byte(fmt.Sprintf("k%d", i%7)), Value: []byte(fmt.Sprintf("franz %d", i)),
			Headers: []kgo.RecordHeader{{Key: "origin", Value: []byte("franz-go")}}, Timestamp: stamp.Add(time.Duration(i) * time.Second),
		}).FirstErr()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("k%d|franz %d|origin=franz-go", i%7, i))
	}

	out := harness.Kcat(t, addr, "", "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", `%k|%s|%h\n`)
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(out), "\n")); diff != "" {
		t.Errorf("what kcat reads (-want +got):\n%s", diff)
	}
	var got []string
	for i, r := range harness.ReadAll(t, addr, topic) {
		got = append(got, fmt.Sprintf("%s|%s|%s", r.Key, r.Value, strings.Join(harness.Headers(r), ",")))
		if i >= 100 && !r.Timestamp.Equal(stamp.Add(time.Duration(i-100)*time.Second)) {
			t.Errorf("record %d: got timestamp %v, want the producer's", i, r.Timestamp)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what franz-go reads (-want +got):\n%s", diff)
	}
}

func TestCompressions(t *testing.T) {
	addr := restored(t)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		topic := "codec-" + codec
		line := strings.Repeat("measurement ", 50)
		harness.CreateTopic(t, addr, topic, 1)
		harness.Kcat(t, addr, strings.Repeat(line+"\n", 20), "-P", "-t", topic, "-z", codec)
		records := harness.ReadAll(t, addr, topic)
		if len(records) != 20 || slices.ContainsFunc(records, func(r *kgo.Record) bool { return string(r.Value) != line }) {
			t.Errorf("%s: got %d records, or altered ones, want 20 as they were written", codec, len(records))
		}
	}
}

func TestGroupResumesFromItsCommit(t *testing.T) {
	addr := restored(t)
	const topic, group = "orders", "till"
	harness.CreateTopic(t, addr, topic, 1)
	produce := func(from, to int) {
		client := harness.Client(t, addr)
		defer client.Close()
		for i := from; i < to; i++ {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(i))}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	consume := func(n int) (got []string) {
		client := harness.Client(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for len(got) < n {
			fetches := client.PollRecords(ctx, n-len(got))
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	produce(0, 20)
	first := consume(12)
	produce(20, 25)
	second := consume(13)
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprint(i))
	}
	if diff := cmp.Diff(want, append(first, second...)); diff != "" {
		t.Errorf("two members of a group, one after the other (-want +got):\n%s", diff)
	}
}
