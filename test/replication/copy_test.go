package replication

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// TestOldCopyOfTheDisk: a box is put back to an old copy of its disk, and has
// written more than was carried when the link comes back. The centre gets all
// of it, and the note says so. The leader epochs of both were begun within
// seconds here, so which of them is higher is chance; where the copy's is,
// nothing is carried twice.
func TestOldCopyOfTheDisk(t *testing.T) {
	need(t)
	t.Parallel()
	_, centre := startBroker(t, nil)
	data, old, addr := t.TempDir(), t.TempDir(), harness.FreeAddr(t)
	box := newService(t, "broker", "--data", data, "--listen", addr, "--site", writeFile(t, "site.yaml", "version: 1\nsite: shop\n"))
	link := newService(t, "replicator", "--broker", addr, "--site", writeFile(t, "site.yaml", fmt.Sprintf(
		"version: 1\nsite: shop\nlinks: [{name: hq, bootstrap: [%q], topics: [sensors]}]\n", centre)))
	write := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			put(t, addr, "sensors", fmt.Sprint(n))
		}
	}
	box.start()
	harness.CreateTopic(t, addr, "sensors", 1)
	write(0, 3)
	box.end(syscall.SIGTERM)
	if err := os.CopyFS(old, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	box.start()
	write(3, 6)
	link.start()
	arrive(t, centre, 6)
	link.end(syscall.SIGTERM)

	carried := epoch(t, addr)
	box.end(syscall.SIGTERM)
	for again := true; again; again = epoch(t, addr) == carried { // once in 256 times
		box.end(syscall.SIGTERM)
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(data, os.DirFS(old)); err != nil {
			t.Fatal(err)
		}
		box.start()
	}
	write(6, 14) // offsets 3 to 10; 6 were carried
	link.start()
	arrive(t, centre, 14)
	harness.Eventually(t, time.Minute, "it is told", func(ctx context.Context) error {
		rep, err := link.status(ctx)
		facts := fmt.Sprint(rep.Facts)
		if err == nil && !strings.Contains(facts, "the source was set back") && !strings.Contains(facts, "the source is another log") {
			err = fmt.Errorf("facts %s", facts)
		}
		return err
	})
}

// epoch is the leader epoch of the broker at addr.
func epoch(t *testing.T, addr string) int32 {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), "sensors")
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup("sensors", 0)
	return end.LeaderEpoch
}

// arrive waits until the centre has each of n values.
func arrive(t *testing.T, addr string, n int) {
	t.Helper()
	harness.Eventually(t, time.Minute, fmt.Sprintf("%d values are at the centre", n), func(ctx context.Context) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("sensors"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		seen := map[string]bool{}
		for len(seen) < n && ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
		}
		if len(seen) < n {
			return fmt.Errorf("it has %d: %v", len(seen), seen)
		}
		return nil
	})
}
