package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/vfs"
)

// small is a topic whose segments are small enough to come and go.
func small(t *testing.T, adm *kadm.Client, topic, full string) {
	t.Helper()
	_, err := adm.CreateTopic(within(t), 1, 1, map[string]*string{
		"segment.bytes": kadm.StringPtr("100000"), "wayside.full": &full,
	}, topic)
	must(t, err)
}

// fill produces n records of 10 KB, numbered from first, waiting for each.
func fill(t *testing.T, cl *kgo.Client, topic string, first, n int) {
	t.Helper()
	for i := first; i < first+n; i++ {
		produce(t, cl, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: make([]byte, 10000)})
	}
}

// bounds are a partition's first offset and the one after its last.
func bounds(t *testing.T, adm *kadm.Client, topic string) (start, end int64) {
	t.Helper()
	starts, err := adm.ListStartOffsets(within(t), topic)
	must(t, err)
	ends, err := adm.ListEndOffsets(within(t), topic)
	must(t, err)
	s, _ := starts.Lookup(topic, 0)
	e, _ := ends.Lookup(topic, 0)
	return s.Offset, e.Offset
}

func uncompressed(t *testing.T, b *running) (*kadm.Client, *kgo.Client) {
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MetadataMinAge(50*time.Millisecond))
	return kadm.NewClient(cl), cl
}

// TestShare: when all records take more than their share of the disk, the
// oldest go, whichever topic they are of; never those of a topic that blocks.
func TestShare(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	fsys.SetCapacity(100 << 20)
	b := start(t, fsys)
	adm, cl := uncompressed(t, b)
	for _, topic := range []string{"old", "new"} {
		small(t, adm, topic, "drop-oldest")
	}
	small(t, adm, "kept", "block")
	fill(t, cl, "kept", 0, 40)
	fill(t, cl, "old", 0, 40)
	fill(t, cl, "new", 0, 60)
	share := func(percent string) {
		t.Helper()
		_, err := adm.AlterBrokerConfigs(within(t), []kadm.AlterConfig{{Name: "wayside.disk.share", Value: &percent}}, 1)
		must(t, err)
	}
	b.DropOnce()
	if s, _ := bounds(t, adm, "old"); s != 0 {
		t.Errorf("within the share the log begins at %d, want 0", s)
	}
	share("1%") // a little over 1 MB of the 1.4 MB
	b.DropOnce()
	oldStart, _ := bounds(t, adm, "old")
	newStart, newEnd := bounds(t, adm, "new")
	keptStart, keptEnd := bounds(t, adm, "kept")
	if oldStart == 0 || newStart != 0 || newEnd != 60 || keptStart != 0 || keptEnd != 40 {
		t.Errorf("old begins at %d, new is %d to %d, kept %d to %d; want only old to have lost some", oldStart, newStart, newEnd, keptStart, keptEnd)
	}
}

// TestDropOldest produces many times what the disk holds.
func TestDropOldest(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	fsys.SetCapacity(2 << 20)
	b := start(t, fsys)
	adm, cl := uncompressed(t, b)
	small(t, adm, "kept", "block")
	small(t, adm, "t", "drop-oldest")
	fill(t, cl, "kept", 0, 30)
	fill(t, cl, "t", 0, 600)
	s, e := bounds(t, adm, "t")
	if s == 0 || e != 600 {
		t.Errorf("log from %d to %d, want the newest of 600", s, e)
	}
	cl.AddConsumeTopics("t")
	for i, r := range consume(t, cl, int(e-s)) {
		if r.Offset != s+int64(i) || string(r.Key) != fmt.Sprint(r.Offset) {
			t.Fatalf("record %d has offset %d and key %s", i, r.Offset, r.Key)
		}
	}
	if s, e := bounds(t, adm, "kept"); s != 0 || e != 30 {
		t.Errorf("the topic that blocks has %d to %d, want 0 to 30", s, e)
	}
}

// TestRoomForTheReader: records that give way to a reader leave it room to
// write to another topic before it commits, to the last byte.
func TestRoomForTheReader(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	fsys.SetCapacity(2 << 20)
	b := start(t, fsys)
	adm, cl := uncompressed(t, b)
	_, err := adm.CreateTopic(within(t), 1, 1, map[string]*string{
		"segment.bytes": kadm.StringPtr("100000"), "wayside.full": kadm.StringPtr("drop-read"), "wayside.full.group": kadm.StringPtr("g"),
	}, "raw")
	must(t, err)
	small(t, adm, "summaries", "block")
	impatient := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordRetries(1),
		kgo.DisableIdempotentWrite(), kgo.MetadataMinAge(50*time.Millisecond))
	for _, size := range []int{10_000, 100} {
		for err = nil; err == nil; {
			err = impatient.ProduceSync(within(t), &kgo.Record{Topic: "raw", Value: make([]byte, size)}).FirstErr()
		}
		if !errors.Is(err, kerr.KafkaStorageError) {
			t.Fatalf("got %v when the disk is full, want %v", err, kerr.KafkaStorageError)
		}
	}
	if err := impatient.ProduceSync(within(t), &kgo.Record{Topic: "summaries", Value: make([]byte, 1000)}).FirstErr(); err != nil {
		t.Fatalf("the reader finds no room: %v", err)
	}
	_, end := bounds(t, adm, "raw")
	var offsets kadm.Offsets
	offsets.AddOffset("raw", 0, end, -1)
	must(t, adm.CommitAllOffsets(within(t), "g", offsets))
	fill(t, cl, "raw", 0, 100)
	if s, _ := bounds(t, adm, "raw"); s == 0 {
		t.Error("nothing was dropped, and the disk holds less")
	}
}

// TestFullDiskBlocks fills the disk with a topic that blocks: everything but
// producing goes on, and when space returns so does that.
func TestFullDiskBlocks(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	fsys.SetCapacity(2 << 20)
	b := start(t, fsys)
	fullDisk(t, b, "other", func() {})
}

// fullDisk is what TestFullDiskBlocks does, on any small disk. worse makes it fuller
// than records can.
func fullDisk(t *testing.T, b *running, other string, worse func()) {
	adm, cl := uncompressed(t, b)
	small(t, adm, "t", "block")
	impatient := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordRetries(2),
		kgo.DisableIdempotentWrite(), kgo.MetadataMinAge(50*time.Millisecond))
	var err error
	for i := 0; err == nil && i < 3000; i++ {
		err = impatient.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: make([]byte, 10000)}).FirstErr()
	}
	if !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("got %v when the disk is full, want %v", err, kerr.KafkaStorageError)
	}
	if r := b.Status(); r.OK {
		t.Errorf("status is fine on a full disk: %s", r.Summary)
	}
	_, end := bounds(t, adm, "t")
	var offsets kadm.Offsets
	offsets.AddOffset("t", 0, end, -1)
	must(t, adm.CommitAllOffsets(within(t), "g", offsets))
	_, err = adm.CreateTopic(within(t), 3, 1, nil, other)
	must(t, err)
	_, err = adm.AlterTopicConfigs(within(t), []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("1")}}, other)
	must(t, err)
	reader := client(t, b, kgo.ConsumeTopics("t"))
	consume(t, reader, int(end))
	worse()

	// A producer that waits finds the space that a deletion gives back.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	cl.Produce(ctx, &kgo.Record{Topic: "t", Value: make([]byte, 10000)}, func(_ *kgo.Record, err error) { done <- err })
	offsets = kadm.Offsets{}
	offsets.AddOffset("t", 0, end/2, -1)
	_, err = adm.DeleteRecords(within(t), offsets)
	must(t, err)
	must(t, <-done)
	if r := b.Status(); !r.OK {
		t.Errorf("status after space returned: %s", r.Summary)
	}
}
