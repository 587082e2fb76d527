package replicator

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// faults a destination or the box's broker may answer with, at any time.
var (
	destFaults = []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition},
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}, // appended all the same
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend},
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed},
		{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Partitions: []int32{1}},
		{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.LeaderNotAvailable},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.CoordinatorNotAvailable},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.UnknownServerError},
		{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.InvalidTxnState},
		{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Err: kerr.ProducerFenced},
	}
	srcFaults = []kfake.Fault{
		{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: 3},
		{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.UnknownServerError},
		{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition},
	}
)

// Whatever goes wrong, in whatever order, with the replicator stopped and
// started in between: nothing is lost, nothing is out of order, and no more
// is there twice than is reported.
func TestSoak(t *testing.T) {
	for _, promise := range []string{exactlyOnce, atLeastOnce} {
		t.Run(promise, func(t *testing.T) { t.Parallel(); soak(t, promise, config, rand.Uint64()) })
	}
}

func soak(t *testing.T, promise string, config func([]string, ...string) Config, seed uint64) {
	const parts, n = 3, 3000
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	src, dst := cluster(t, kfake.SeedTopics(parts, "sensors")), cluster(t)
	if promise == atLeastOnce {
		noTransactions(dst)
	}
	cl := client(t, src.ListenAddrs())
	reported := int64(0)
	r, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	const step = n / 6
	for at := 0; at < n; at += step {
		switch rnd.IntN(3) {
		case 0:
			dst.Fault(destFaults[rnd.IntN(len(destFaults))])
		case 1:
			src.Fault(srcFaults[rnd.IntN(len(srcFaults))])
		}
		write(t, cl, "sensors", parts, at, at+step)
		if rnd.IntN(2) == 0 {
			stop()
			reported += resent(r)
			r, stop = start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
			continue
		}
		eventually(t, "what was written is carried", func() bool { return carriedTo(r) == int64(at+step) })
	}
	eventually(t, "everything is carried", func() bool { return carriedTo(r) == n })
	stop()
	// A last record of each partition, so that none behind the last expected
	// one is overlooked.
	last := client(t, dst.ListenAddrs())
	for p := range int32(parts) {
		if err := last.ProduceSync(t.Context(), &kgo.Record{Topic: "sensors", Partition: p, Value: strconv.AppendInt(nil, -1-int64(p), 10)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	got := readUntil(t, dst.ListenAddrs(), "sensors", func(_, seen int) bool { return seen >= n+parts })
	for p, values := range got {
		got[p] = slices.DeleteFunc(values, func(v int) bool { return v < 0 })
	}
	again := check(t, got, parts, n)
	if reported += resent(r); int64(again) > reported {
		t.Errorf("%d duplicates, %d reported", again, reported)
	}
	if promise == exactlyOnce && again > 0 {
		t.Errorf("%d duplicates, promised is %s", again, promise)
	}
}

// linkEnds sums the end offsets at the destination.
func linkEnds(dst *kfake.Cluster, parts int32) (n int64) {
	for p := range parts {
		if i := dst.PartitionInfo("sensors", p); i != nil {
			n += i.HighWatermark
		}
	}
	return n
}

// carriedTo sums the link's positions.
func carriedTo(r *Replicator) (n int64) {
	l := r.links[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		n += p.next
	}
	return n
}
