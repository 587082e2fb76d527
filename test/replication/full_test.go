package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// fullBox is a box whose disk is small: with links to a centre of ours behind
// an uplink, and one to itself that makes summaries.
type fullBox struct {
	broker, replicator *service
	addr, centre       string
	up                 *harness.Proxy
}

const fullProfile = `version: 1
site: shop
broker:
  topics:
    - {name: sensors, partitions: 1, config: {segment.bytes: 1048576, wayside.full: drop-read, wayside.full.group: wayside.link.local.tens}}
    - {name: alarms, partitions: 1, config: {segment.bytes: 1048576, wayside.full: drop-read, wayside.full.group: wayside.link.hq}}
links:
  - name: local
    bootstrap: [%[1]q]
    rules: [{name: tens, topics: [sensors], to: "{topic}.10s", window: {every: 10s}}]
  - {name: hq, bootstrap: [%[2]q], topics: [sensors.10s, alarms]}
`

func startFullBox(t *testing.T) fullBox {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	b := fullBox{up: harness.StartProxy(t), addr: harness.FreeAddr(t)}
	_, b.centre = startBroker(t, b.up)
	site := writeFile(t, "site.yaml", fmt.Sprintf(fullProfile, b.addr, b.up.Addr))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b.broker = newService(t, "broker", "--data", dir, "--listen", b.addr, "--site", site)
	b.broker.start()
	b.replicator = newService(t, "replicator", "--broker", b.addr, "--site", site)
	b.replicator.start()
	return b
}

// write produces n records of a kilobyte, 10 ms apart by their timestamps, and
// returns when all are acknowledged or ctx ends. The timestamps are ahead of
// the clock: a window closes by the records alone, however long they wait for
// room.
func (b fullBox) write(t *testing.T, ctx context.Context, topic string, n int) error {
	cl := harness.Client(t, b.addr, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(100_000), kgo.MaxBufferedRecords(1000))
	defer cl.Close()
	first := time.Now().Add(time.Hour).Truncate(10 * time.Second)
	var failed error
	for i := range n {
		r := &kgo.Record{Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%d%s", i, strings.Repeat(" ", 1000)), Timestamp: first.Add(time.Duration(i) * 10 * time.Millisecond)}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	}
	return errors.Join(cl.Flush(ctx), failed)
}

// start is where a topic's log begins on the box.
func (b fullBox) start(t *testing.T, topic string) int64 {
	t.Helper()
	cl := harness.Client(t, b.addr)
	defer cl.Close()
	starts, err := kadm.NewClient(cl).ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := starts.Lookup(topic, 0)
	return o.Offset
}

// TestOnlySummariesAreKept: the uplink is away, and three times what the disk
// holds is written. Nobody waits for the uplink: what is in a summary goes,
// what is not does not, and the box says that it drops. With the uplink back
// the centre has every summary once, and their counts are all records but
// those of the window that is open.
func TestOnlySummariesAreKept(t *testing.T) {
	need(t)
	t.Parallel()
	const n, open = 60_000, 1000
	b := startFullBox(t)
	b.up.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := b.write(t, ctx, "sensors", n); err != nil {
		t.Fatalf("records are not taken although summaries are made: %v", err)
	}
	if at := b.start(t, "sensors"); at < n/3 || at > n-open {
		t.Errorf("the log begins at %d; the disk holds a third of %d records, and %d are in no summary", at, n, open)
	}
	rep, err := b.broker.status(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(rep.Facts), "bytes dropped for room") {
		t.Errorf("the broker's status does not say that it drops: %v, %v", rep.Facts, err)
	}
	if m, err := b.broker.get(t.Context(), "/metrics"); err != nil || !regexp.MustCompile(`(?m)^wayside_broker_dropped_bytes_total [1-9]`).Match(m) {
		t.Errorf("no metric counts what was dropped: %v", err)
	}
	if log, _ := os.ReadFile(b.broker.log()); !strings.Contains(string(log), "dropped the oldest records") {
		t.Error("the broker's log does not say that it drops")
	}
	b.up.Heal()
	var sums []summary
	harness.Eventually(t, time.Minute, "summaries of all records are at the centre", func(context.Context) error {
		sums = readSummaries(t, b.centre)
		all := 0
		for _, s := range sums {
			all += s.Count
		}
		if all < n-open {
			return fmt.Errorf("%d summaries of %d records", len(sums), all)
		}
		return nil
	})
	for i, s := range sums {
		if s.Count != 1000 || i > 0 && s.From != sums[i-1].To {
			t.Errorf("summary %d is of %d records from %d; the one before ends at %d", i, s.Count, s.From, sums[max(i, 1)-1].To)
		}
	}
	if rep, err := b.replicator.status(t.Context()); err != nil || strings.Contains(fmt.Sprint(rep.Facts), "deleted at the source") {
		t.Errorf("a record went before it was in a summary: %v, %v", rep.Facts, err)
	}
}

// summary is what a window of the profile writes.
type summary struct {
	From, To int64
	Count    int
}

func readSummaries(t *testing.T, addr string) (all []summary) {
	t.Helper()
	cl := harness.Client(t, addr)
	topics, err := kadm.NewClient(cl).ListTopics(t.Context())
	cl.Close()
	if err != nil || !topics.Has("sensors.10s") {
		return nil
	}
	for _, r := range harness.ReadCommitted(t, addr, "sensors.10s") {
		var s summary
		if err := json.Unmarshal(r.Value, &s); err != nil {
			t.Fatalf("summary %s: %v", r.Value, err)
		}
		all = append(all, s)
	}
	return all
}

// TestOnlyWhatWasCarriedGoes: a topic that gives way up to where the link has
// come holds its producers when the uplink is away and the disk is full, and
// the box says why. With the uplink back the producer goes on, and the centre
// has every record once.
func TestOnlyWhatWasCarriedGoes(t *testing.T) {
	need(t)
	t.Parallel()
	const n = 40_000
	b := startFullBox(t)
	b.up.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	written := make(chan error, 1)
	go func() { written <- b.write(t, ctx, "alarms", n) }()
	harness.Eventually(t, time.Minute, "the box says that its disk is full", func(ctx context.Context) error {
		rep, err := b.broker.status(ctx)
		if err == nil && (rep.OK || !strings.Contains(fmt.Sprint(rep.Facts), "producers are told to try again")) {
			err = fmt.Errorf("status %s, %v", rep.Summary, rep.Facts)
		}
		return err
	})
	if at := b.start(t, "alarms"); at != 0 {
		t.Errorf("the log begins at %d, and nothing was carried", at)
	}
	b.up.Heal()
	if err := <-written; err != nil {
		t.Fatalf("the producer does not go on: %v", err)
	}
	var got []string
	harness.Eventually(t, 2*time.Minute, "all is at the centre", func(context.Context) error {
		if rep, err := b.replicator.status(ctx); err != nil || rep.Links[1].Lag > 0 {
			return fmt.Errorf("links %+v, %v", rep.Links, err)
		}
		got = nil
		for _, r := range harness.ReadCommitted(t, b.centre, "alarms") {
			got = append(got, strings.TrimSpace(string(r.Value)))
		}
		if len(got) < n {
			return fmt.Errorf("%d records", len(got))
		}
		return nil
	})
	for i, v := range got {
		if v != fmt.Sprint(i) {
			t.Fatalf("record %d at the centre is %q", i, v)
		}
	}
	if b.start(t, "alarms") == 0 {
		t.Error("nothing was dropped, and the disk holds half of it")
	}
}
