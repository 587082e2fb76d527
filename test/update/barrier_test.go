package update

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

// newFormat begins a checkpoint that only releases with transactions can read
// (docs/formats/broker-log.md).
var newFormat = []byte("WAYSCKPT\x02")

// TestFormatBarrier has a box go from a release that knows no transactions to
// one that does. On trial the new one keeps what it is given and has
// transactions wait; the trial fails, and the old one opens all of it. Once the
// new one is committed the same producer goes on, and only then the new format
// is on the disk.
func TestFormatBarrier(t *testing.T) {
	harness.NeedVM(t)
	needMatrix(t)
	old := buildChanged(t, "0.0.9", 9,
		edit{"services/manifest/slots.go", "FormatLevel = LevelTransactions", "FormatLevel = LevelFirst"},
		edit{"services/broker/store/checkpoint.go", "checkpointVersion = 2 //", "checkpointVersion = 1 //"})
	u := newUpdates(t, old)
	u.configure(u.server(), 2)
	u.publish(build(t, "0.2.0", 20))
	records := 0
	u.start(nil, longAgo)
	u.runs("0.0.9")
	u.write(&records)

	begin := time.Now()
	u.verb("refresh")
	u.verb("prepare")
	u.verb("activate")
	u.site.as("", hangUp)
	u.verb("reboot")
	u.phase(manifest.UpdateTrial)
	u.write(&records)
	u.groupReads(records)
	if err := u.transactions(); err != kerr.CoordinatorLoadInProgress {
		t.Errorf("on trial a transactional producer is told %v, want to ask again", err)
	}
	u.ends("0.2.0", false)
	u.site.as("", nil)
	u.runs("0.0.9")
	t.Logf("%-46s %3.0f s", "a trial with the newer format is given up", time.Since(begin).Seconds())
	u.reads(records)
	if got := u.groupAt(); got != int64(records) {
		t.Errorf("the group is at %d, committed on trial were %d", got, records)
	}
	u.write(&records)
	u.PowerOff()
	u.check()
	if u.holds(layout.Data, newFormat) {
		t.Error("the newer format is on the disk, and nothing was committed")
	}

	begin = time.Now()
	u.start(nil, longAgo)
	u.runs("0.0.9")
	u.verb("retry")
	u.take("0.2.0")
	u.reads(records)
	harness.Eventually(t, time.Minute, "transactions go on after the commit", func(context.Context) error { return u.transactions() })
	u.inTransaction()
	t.Logf("%-46s %3.0f s", "it is kept, and writes the newer format", time.Since(begin).Seconds())
	u.PowerOff()
	u.check()
	if !u.holds(layout.Data, newFormat) {
		t.Error("the newer format is not on the disk: this test shows nothing")
	}
}

// phase waits for a phase of the update.
func (u *updates) phase(want string) {
	u.t.Helper()
	harness.Eventually(u.t, harness.BootTime, "phase "+want, func(context.Context) error {
		s, err := u.state()
		if err == nil && s.Phase != want {
			err = fmt.Errorf("phase %s", s.Phase)
		}
		return err
	})
}

// ends waits until the trial of a version has come to an end, that one.
func (u *updates) ends(version string, committed bool) {
	u.t.Helper()
	u.Eventually(2*harness.BootTime, "the trial of "+version+" ends", func(context.Context) error {
		s, err := u.state()
		switch {
		case err != nil:
			return err
		case s.Last == nil || s.Last.Version != version:
			return fmt.Errorf("runs %s, phase %s", s.Running, s.Phase)
		case s.Last.Committed != committed:
			u.t.Fatalf("the trial of %s ended so: %+v", version, s.Last)
		}
		return nil
	})
}

// transactions asks once whether a transactional producer may begin.
func (u *updates) transactions() error {
	u.t.Helper()
	cl := harness.Client(u.t, u.Addr("kafka"))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("barrier"), 10_000
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.(*kmsg.InitProducerIDResponse).ErrorCode)
}

// inTransaction writes a record in one, to a topic of its own.
func (u *updates) inTransaction() {
	u.t.Helper()
	harness.CreateTopic(u.t, u.Addr("kafka"), "transactions", 1)
	cl := harness.Client(u.t, u.Addr("kafka"), kgo.TransactionalID("barrier"), kgo.DefaultProduceTopic("transactions"))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		u.t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
		u.t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		u.t.Fatal(err)
	}
}

// reads wants all records to be there.
func (u *updates) reads(records int) {
	u.t.Helper()
	if got := len(harness.ReadAll(u.t, u.Addr("kafka"), loadTopic)); got != records {
		u.t.Errorf("%d records are there, %d were acknowledged", got, records)
	}
}

// groupReads has a group read and commit so many records.
func (u *updates) groupReads(records int) {
	u.t.Helper()
	cl := harness.Client(u.t, u.Addr("kafka"), kgo.ConsumeTopics(loadTopic), kgo.ConsumerGroup(loadGroup), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	defer cancel()
	for n := 0; n < records; {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			u.t.Fatalf("the group has read %d of %d records: %v", n, records, err)
		}
		n += fetches.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		u.t.Fatal(err)
	}
}

// groupAt is what the group has committed.
func (u *updates) groupAt() int64 {
	u.t.Helper()
	cl := harness.Client(u.t, u.Addr("kafka"))
	defer cl.Close()
	got, err := kadm.NewClient(cl).FetchOffsets(u.t.Context(), loadGroup)
	if err != nil {
		u.t.Fatal(err)
	}
	at, _ := got.Lookup(loadTopic, 0)
	return at.At
}

// holds says whether a text lies anywhere on a partition of a box that is off.
func (m *machine) holds(role layout.Role, text []byte) bool {
	m.t.Helper()
	p := harness.OpenPartition(m.t, m.disk, role)
	found, err := contains(io.NewSectionReader(p, 0, p.Info.Size), text)
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

// contains reads until it has met a text.
func contains(r io.Reader, text []byte) (bool, error) {
	buf, kept := make([]byte, 1<<20), 0
	for {
		n, err := r.Read(buf[kept:])
		if bytes.Contains(buf[:kept+n], text) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		end := kept + n
		kept = min(end, len(text)-1)
		copy(buf, buf[end-kept:end])
	}
}
