package replication

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

var (
	soakTime = flag.Duration("soak-link", 0, "how long to soak each link; 0 does each fault once")
	soakSeed = flag.Uint64("seed", 0, "of the faults; 0 takes one by the clock")
)

const (
	partitions = 3
	batch      = 50 // records that the writer has on their way
)

// need skips the test unless it is asked for (make clients, make soak).
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("WAYSIDE_CLIENTS") == "" && *soakTime == 0 {
		t.Skip("runs Apache Kafka and processes: run make clients")
	}
}

// centre is where records go.
type centre struct {
	addr string // past the proxy
	kill func() // ends it, or a broker of it, as a crash does, and starts it again
}

// TestNothingLostNothingTwice writes to the box's broker while the uplink
// is cut, stalled, reset and slow and replicator, box and centre are killed,
// then heals all, and compares every record. In the short form each fault is
// done once, in an order by the seed; in the long one, at random until the
// time is over.
func TestNothingLostNothingTwice(t *testing.T) {
	need(t)
	centres := map[string]func(*testing.T, *harness.Proxy) centre{
		"kafka": func(t *testing.T, p *harness.Proxy) centre {
			k := harness.StartKafkaBehind(t, p.Addr)
			p.Target(k.GuestListen)
			return centre{k.HostAddr, func() { k.Kill(); k.Start() }}
		},
		"wayside": func(t *testing.T, p *harness.Proxy) centre {
			b, addr := startBroker(t, p)
			return centre{addr, func() { b.end(syscall.SIGKILL); b.start() }}
		},
	}
	every := []string{"cut", "stall", "reset", "slow", "latency", "kill", "kill", "stop", "kill box", "kill centre", "kill in commit"}
	for name, start := range centres {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := harness.StartProxy(t)
			soak(t, uplink{proxy}, start(t, proxy), "zstd", every)
		})
	}
	t.Run("kept batches", func(t *testing.T) {
		t.Parallel()
		proxy := harness.StartProxy(t)
		soak(t, uplink{proxy}, centres["kafka"](t, proxy), "keep", every)
	})
	t.Run("three brokers", func(t *testing.T) {
		t.Parallel()
		up, to, brokers := threeBrokers(t)
		box, link := soak(t, up, to, "zstd", []string{"kill centre", "kill centre", "kill", "kill box", "reset"})
		hidden(t, up, brokers, box, link)
		if *soakTime > 0 { // on each run TestLeaderEpochPutsInDoubt shows the same without a Kafka
			frozen(t, up, brokers, box, link)
		}
	})
}

// uplink leads to each broker of the centre.
type uplink []*harness.Proxy

func (u uplink) each(do func(*harness.Proxy)) {
	for _, p := range u {
		do(p)
	}
}

func (u uplink) limit(rate int64, latency time.Duration) {
	u.each(func(p *harness.Proxy) { p.Limit(rate, latency) })
}

// bootstrap names every broker: a link that starts while one is away needs
// another.
func (u uplink) bootstrap() string {
	var all []string
	u.each(func(p *harness.Proxy) { all = append(all, strconv.Quote(p.Addr)) })
	return strings.Join(all, ", ")
}

func (u uplink) bytes() (n int64) {
	u.each(func(p *harness.Proxy) { n += p.Bytes() })
	return n
}

// soak returns the address of the box and the replicator, which goes on.
func soak(t *testing.T, up uplink, to centre, compression string, short []string) (boxAddr string, replicator *service) {
	seed := *soakSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	box, boxAddr := startBroker(t, nil)
	harness.CreateTopic(t, boxAddr, "sensors", partitions)
	replicator = newService(t, "replicator", "--broker", boxAddr, "--site", writeFile(t, "site.yaml", fmt.Sprintf(
		"version: 1\nsite: shop\nlinks: [{name: hq, bootstrap: [%s], topics: [sensors, quiet, calm, more], prefix: shop., guarantee: exactly-once, compression: %s}]\n", up.bootstrap(), compression)))
	replicator.start()

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var written [partitions]atomic.Int64
	var load sync.WaitGroup
	for p := range int32(partitions) {
		load.Go(func() { writer(ctx, t, boxAddr, p, &written[p]) })
	}
	faults := &faults{rnd: rand.New(rand.NewPCG(seed, 0)), up: up, replicator: replicator, box: box, centre: to.kill, counts: map[string]int{}}
	if *soakTime > 0 {
		long, cancel := context.WithTimeout(ctx, *soakTime)
		defer cancel()
		for long.Err() == nil {
			faults.do(long, faultKinds[faults.rnd.IntN(len(faultKinds))])
		}
	} else {
		for _, i := range faults.rnd.Perm(len(short)) {
			faults.do(ctx, short[i])
		}
	}
	stop()
	load.Wait()
	total := int64(0)
	for p := range written {
		total += written[p].Load()
	}
	t.Logf("%d records written; faults: %v; %d bytes on the uplink", total, faults.counts, up.bytes())
	arrived(t, to.addr, "shop.sensors", written[:])
	return boxAddr, replicator
}

// writer produces numbers, each after the one before is acknowledged or with
// it, so that their order is known. What was given up may be there or not.
func writer(ctx context.Context, t *testing.T, addr string, partition int32, acked *atomic.Int64) {
	cl := harness.Client(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	for n := int64(0); ctx.Err() == nil; {
		var rs []*kgo.Record
		for range batch {
			rs = append(rs, &kgo.Record{
				Topic: "sensors", Partition: partition, Key: fmt.Appendf(nil, "device-%d", n%7),
				Value: fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", int(n)%300)),
			})
			n++
		}
		// Without an end: what is begun is written, whatever happens to the
		// broker, so that all that is there is known.
		if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
			t.Errorf("write to the box: %v", err)
			return
		}
		acked.Store(n)
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// arrived waits until the topic has all that was written, and compares.
func arrived(t *testing.T, addr, topic string, written []atomic.Int64) {
	t.Helper()
	cl := harness.Client(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	next := make([]int64, len(written))
	missing := func() bool {
		for p := range next {
			if next[p] < written[p].Load() {
				return true
			}
		}
		return false
	}
	read := func(ctx context.Context) {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			text, _, _ := strings.Cut(string(r.Value), " ")
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n != next[r.Partition] {
				t.Errorf("partition %d, offset %d: record %q, want %d next", r.Partition, r.Offset, text, next[r.Partition])
			}
			next[r.Partition] = n + 1
		})
	}
	for missing() && ctx.Err() == nil && !t.Failed() {
		read(ctx)
	}
	if missing() {
		t.Fatalf("lost: records up to %v arrived", next)
	}
	// What comes again would lie behind: up to the end that the log has now.
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: o.Partition, Value: strconv.AppendInt(nil, next[o.Partition], 10)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	})
	last := make([]int64, len(next))
	for p := range last {
		last[p] = next[p] + 1
	}
	for more := true; more && ctx.Err() == nil && !t.Failed(); {
		read(ctx)
		more = false
		for p := range last {
			more = more || next[p] < last[p]
		}
	}
	for p := range last {
		if next[p] < last[p] {
			t.Fatalf("what lies behind the last records was not read to its end: up to %v of %v", next, last)
		}
	}
}
