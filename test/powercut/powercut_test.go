// Package powercut pulls the plug on a box that is being written to and looks
// for every acknowledged record afterwards.
package powercut

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

var (
	rounds = flag.Int("rounds", 12, "power cuts of each kind")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides when power is cut and what a cut leaves")
)

const topic = "ledger"

// TestKilled cuts the power and keeps what the guest has written: it shows a
// missing fsync.
func TestKilled(t *testing.T) {
	run(t, qemu.DiskCopy, func(box *harness.Box, _ uint64) error { return box.PowerCut() })
}

// TestDropped cuts the power of a disk that also loses, and tears, what was
// written and not flushed: it shows a missing flush.
func TestDropped(t *testing.T) {
	var kept, dropped int
	run(t, qemu.DiskDropping, func(box *harness.Box, seed uint64) error {
		// An acknowledgement has just come, so all is flushed: cut in the
		// middle of what follows.
		select {
		case <-box.NextWrite(1 + int(seed%8)):
		case <-time.After(time.Minute):
			t.Error("no write reached the disk, though records are produced")
		}
		stats, err := box.PowerCutDropping(seed)
		kept, dropped = kept+int(stats.Kept), dropped+int(stats.Dropped)
		return err
	})
	t.Logf("un-flushed sectors: %d kept, %d dropped", kept, dropped)
	if dropped == 0 && !t.Skipped() {
		t.Error("no cut ever dropped a write: the test shows nothing")
	}
}

// TestLyingDisk is the control: on a disk that acknowledges flushes and does
// not do them, a power cut must lose what was acknowledged, and be noticed.
func TestLyingDisk(t *testing.T) {
	harness.NeedVM(t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	box := harness.Boot(t, harness.Build(t, ""), func(c *qemu.Config) {
		c.Disk, c.DiskFile, c.DiskLies = qemu.DiskDropping, disk, true
	})
	box.WaitReady()
	harness.CreateTopic(t, box.Addr("kafka"), topic, 1)
	var l ledger
	l.write(t, box, 200, func() error {
		_, err := box.PowerCutDropping(*seed)
		return err
	})
	// The box may not boot any more; records lie on its disk as they were
	// produced, so the disk itself tells.
	found := scan(t, disk)
	lost := 0
	for _, n := range l.acked {
		if !found[mark(n)] {
			lost++
		}
	}
	t.Logf("%d of %d acknowledged records are lost", lost, len(l.acked))
	if lost == 0 {
		t.Error("nothing is lost on a disk that never flushes: the other tests would not notice a missing flush")
	}
}

// scan looks for records' values anywhere on a raw disk.
func scan(t *testing.T, disk string) map[string]bool {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	buf := make([]byte, 1<<20)
	for off := harness.NextData(f, 0, st.Size()); off < st.Size(); {
		n, err := f.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		for _, v := range anyMark.FindAll(buf[:n], -1) {
			found[string(v)] = true
		}
		// The next piece overlaps this one by a mark.
		off = harness.NextData(f, off+int64(len(buf)-len(mark(0))), st.Size())
	}
	return found
}

var anyMark = regexp.MustCompile(`ledger entry \d{9}\.`)

// mark begins a record's value: long enough to be found on a raw disk.
func mark(n int64) string { return fmt.Sprintf("ledger entry %09d.", n) }

// value is a record's. A round brings more than a megabyte of them: from there
// on a segment has blocks reserved ahead.
func value(n int64) []byte { return append([]byte(mark(n)), padding...) }

var padding = bytes.Repeat([]byte("."), 4<<10)

func run(t *testing.T, disk qemu.DiskMode, cut func(*harness.Box, uint64) error) {
	harness.NeedVM(t)
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	box := harness.Boot(t, harness.Build(t, ""), func(c *qemu.Config) {
		c.Disk, c.FlushDelay = disk, 5*time.Millisecond
	})
	box.WaitReady()
	harness.CreateTopic(t, box.Addr("kafka"), topic, 1)
	harness.CreateTopic(t, box.Addr("kafka"), txnTopic, txnParts)
	var l ledger
	var x transactions
	plant := attach(t, box)
	for round := range *rounds {
		plant.progress(t, 1+rng.IntN(20))
		at := 50 + rng.Int64N(400)
		reached, stop := x.start(t, box, 1+rng.IntN(8))
		l.write(t, box, at, func() error {
			if err := reached(); err != nil {
				return err
			}
			return cut(box, rng.Uint64())
		})
		stop()
		box.PowerOn()
		l.check(t, box, round)
		x.check(t, box, round)
		plant.check(t, box, round)
		if t.Failed() {
			t.FailNow()
		}
	}
	plant.progress(t, 1) // what was under way at the last cut came, too
	plant.stop()
	again := plant.check(t, box, *rounds)
	for _, d := range plant.all {
		t.Logf("MQTT device %s: %d messages acknowledged, %d times cut off from one", d.name, d.acked, d.cuts)
		if d.cuts == 0 {
			t.Errorf("MQTT device %s was never cut off from a message under way: the test shows nothing", d.name)
		}
	}
	t.Logf("%d messages of QoS 1 came more than once", again)
	t.Logf("%d power cuts, %d records acknowledged, none lost; %d more were there un-acknowledged", *rounds, len(l.acked), l.extra)
	t.Logf("%d transactions of %d ended as acknowledged, all are whole", len(x.ended), x.next)
	if len(x.ended) < *rounds {
		t.Errorf("only %d transactions ended in %d rounds: the test shows too little", len(x.ended), *rounds)
	}
}

// ledger remembers what a box has acknowledged. Records are numbered in the
// order they are handed to the client.
type ledger struct {
	next  int64
	acked []int64
	extra int // in the log at the last check, never acknowledged
}

// write produces with acks=all, several in flight, and cuts the power once at
// records have been acknowledged.
func (l *ledger) write(t *testing.T, box *harness.Box, at int64, cut func() error) {
	t.Helper()
	client := harness.Client(t, box.Addr("kafka"), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(64), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var acks atomic.Int64
	reached := make(chan struct{})
	done := make(chan []int64)
	results := make(chan int64, 1<<16)
	go func() { // collects what was acknowledged
		var got []int64
		for n := range results {
			got = append(got, n)
		}
		done <- got
	}()
	producing := make(chan struct{})
	go func() {
		defer close(producing)
		for ; ctx.Err() == nil; l.next++ {
			n := l.next
			client.Produce(ctx, &kgo.Record{Topic: topic, Value: value(n)}, func(_ *kgo.Record, err error) {
				if err != nil {
					return
				}
				results <- n
				if acks.Add(1) == at {
					close(reached)
				}
			})
		}
	}()
	select {
	case <-reached:
	case <-ctx.Done():
		t.Fatalf("only %d of %d records were acknowledged in time", acks.Load(), at)
	}
	if err := cut(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-producing
	client.Close() // after it no promise is called any more
	close(results)
	l.acked = append(l.acked, <-done...)
}

// check reads the whole log: every acknowledged record must be there, once,
// and all of it in the order it was written.
func (l *ledger) check(t *testing.T, box *harness.Box, round int) {
	t.Helper()
	seen := map[int64]bool{}
	last := int64(-1)
	for _, r := range harness.ReadAll(t, box.Addr("kafka"), topic) {
		var n int64
		if _, err := fmt.Sscanf(string(r.Value), "ledger entry %d.", &n); err != nil || !bytes.Equal(r.Value, value(n)) {
			t.Fatalf("round %d: offset %d holds %.60q, which was never written", round, r.Offset, r.Value)
		}
		if seen[n] || n < last {
			t.Errorf("round %d: record %d at offset %d comes twice or after %d", round, n, r.Offset, last)
		}
		seen[n], last = true, n
	}
	var lost []int64
	for _, n := range l.acked {
		if !seen[n] {
			lost = append(lost, n)
		}
	}
	if len(lost) > 0 {
		t.Errorf("round %d: %d acknowledged records are lost, the first is %d", round, len(lost), lost[0])
	}
	l.extra = len(seen) - len(l.acked)
}
