package broker_test

import (
	"context"
	"errors"
	"path"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// TestFormatBarrier: as long as a version is on trial, the broker writes
// nothing that the version before could not open; transactional producers wait.
// Once it is committed, without a restart, they go on.
func TestFormatBarrier(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	var level atomic.Int64
	level.Store(manifest.LevelFirst)
	told := make(chan struct{}, 100)
	barrier := func(c *broker.Config) {
		c.FormatLevel = func() int { told <- struct{}{}; return int(level.Load()) }
	}
	b := start(t, fsys, withTopics("t"), barrier)
	plain := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"))
	produce(t, plain, &kgo.Record{Topic: "t", Value: []byte("a")}, &kgo.Record{Topic: "t", Partition: 1, Value: []byte("b")})
	consume(t, plain, 2)
	must(t, plain.CommitUncommittedOffsets(within(t)))
	plain.Close()
	cl := client(t, b)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("x"), 10_000
	ctx, giveUp := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() {
		_, err := req.RequestWith(ctx, cl)
		done <- err
	}()
	<-told
	<-told // it was told to ask again, and does
	giveUp()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a transaction on trial: got %v, want it to wait", err)
	}
	cl.Close()
	must(t, b.stop())
	if got := newestCheckpoint(t, fsys, "."); got != 1 {
		t.Errorf("on trial a checkpoint of version %d was written, the version before knows 1", got)
	}

	b = start(t, fsys, barrier)
	cl = client(t, b, kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	go func() {
		<-told
		level.Store(manifest.LevelTransactions)
	}()
	inTxn(t, cl, kgo.TryCommit, "t", "d")
	cl.Close()
	must(t, b.stop())
	if got := newestCheckpoint(t, fsys, "."); got != 2 {
		t.Errorf("after the commit the newest checkpoint has version %d: nothing was held back", got)
	}
}

// newestCheckpoint is the highest version of any checkpoint below dir.
func newestCheckpoint(t *testing.T, fsys vfs.FS, dir string) (newest byte) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			newest = max(newest, newestCheckpoint(t, fsys, name))
			continue
		}
		if e.Name() != "checkpoint" {
			continue
		}
		f, err := fsys.Open(name)
		must(t, err)
		var head [16]byte
		_, err = f.ReadAt(head[:], 0)
		must(t, err)
		must(t, f.Close())
		newest = max(newest, head[8])
	}
	return newest
}
