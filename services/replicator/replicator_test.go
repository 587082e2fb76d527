package replicator

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// clusters tells the stand-ins apart.
var clusters atomic.Int64

// cluster starts a Kafka stand-in that ends with the test.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.ClusterID(fmt.Sprint("cluster-", clusters.Add(1)))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func config(src []string, dst ...string) Config {
	return Config{
		Site: "shop", Source: src, Log: slog.New(slog.DiscardHandler),
		Links: []site.Link{{Name: "hq", Bootstrap: dst, Topics: []string{"sensors"}}},
	}
}

// start runs a replicator; stop ends it and waits.
func start(t *testing.T, cfg Config) (r *Replicator, stop func()) {
	t.Helper()
	return startWith(t, cfg, func(*link) {})
}

// startWith is start with links changed before they run.
func startWith(t *testing.T, cfg Config, change func(*link)) (r *Replicator, stop func()) {
	t.Helper()
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.links {
		l.pace = pace{
			discover: 200 * time.Millisecond, backoffMin: 20 * time.Millisecond, backoffMax: 200 * time.Millisecond,
			watch: 100 * time.Millisecond, grace: time.Second, save: 100 * time.Millisecond,
		}
		change(l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-r.Ready()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
	t.Cleanup(stop)
	return r, stop
}

func client(t *testing.T, addrs []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(200 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// write produces values from, from+1, … until to, round robin over partitions
// in order.
func write(t *testing.T, cl *kgo.Client, topic string, partitions int32, from, to int) {
	t.Helper()
	var rs []*kgo.Record
	for n := from; n < to; n++ {
		rs = append(rs, &kgo.Record{Topic: topic, Partition: int32(n) % partitions, Value: []byte(strconv.Itoa(n))})
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// read consumes topic from its start until want distinct values are there or
// a deadline, and returns the values of each partition as they lie there.
func read(t *testing.T, addrs []string, topic string, want int) map[int32][]int {
	t.Helper()
	return readUntil(t, addrs, topic, func(_, distinct int) bool { return distinct >= want })
}

func readUntil(t *testing.T, addrs []string, topic string, enough func(all, distinct int) bool) map[int32][]int {
	t.Helper()
	cl := client(t, addrs, kgo.ConsumeTopics(topic), kgo.FetchMaxWait(200*time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	got, seen, all := map[int32][]int{}, map[int]bool{}, 0
	for !enough(all, len(seen)) && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				t.Errorf("record %q is not one of ours", r.Value)
			}
			seen[n] = true
			all++
			got[r.Partition] = append(got[r.Partition], n)
		})
	}
	return got
}

// check verifies that partitions hold every value from 0 to n in order, the
// first time each appears, and returns how many appear again.
func check(t *testing.T, got map[int32][]int, partitions int32, n int) (again int) {
	t.Helper()
	for p := range partitions {
		next := int(p)
		for _, v := range got[p] {
			switch {
			case v == next:
				next += int(partitions)
			case v < next && int32(v)%partitions == p:
				again++
			default:
				t.Fatalf("partition %d: got %d, want %d next: lost or out of order", p, v, next)
			}
		}
		if next < n {
			t.Fatalf("partition %d ends before %d, want all below %d", p, next, n)
		}
	}
	return again
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(4 * farFetch) // a new topic of the centre waits for the fetch under way
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func linkOf(r *Replicator) manifest.Link { return r.Status().Links[0] }

func resent(r *Replicator) int64 {
	r.links[0].mu.Lock()
	defer r.links[0].mu.Unlock()
	return r.links[0].resent
}

func TestRecordsArriveUnchanged(t *testing.T) {
	t.Parallel()
	src := cluster(t, kfake.SeedTopics(3, "sensors", "alarms.fire"), kfake.SeedTopics(1, "other", "__internal"))
	dst := cluster(t)
	cl := client(t, src.ListenAddrs())
	at := time.UnixMilli(1700000000123)
	var want []string
	for i := range int32(3) {
		for _, topic := range []string{"sensors", "alarms.fire", "other", "__internal"} {
			part := i
			if topic == "other" || topic == "__internal" {
				part = 0
			}
			r := &kgo.Record{
				Topic: topic, Partition: part, Key: []byte("k"), Value: []byte("v"), Timestamp: at,
				Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}},
			}
			if i == 2 {
				r.Key, r.Value, r.Headers = nil, nil, nil
			}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if topic != "other" && topic != "__internal" {
				want = append(want, show(r, "shop."+topic))
			}
		}
	}
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Topics = []string{"sensors", "alarms*", "__*"}
	cfg.Links[0].Prefix = "shop."
	r, _ := start(t, cfg)
	eventually(t, "six records carried", func() bool {
		n := int64(0)
		for _, f := range r.Status().Flows {
			n += f.Records
		}
		return n == 6
	})

	out := client(t, dst.ListenAddrs(), kgo.ConsumeTopics("shop.sensors", "shop.alarms.fire"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	for len(got) < len(want) && ctx.Err() == nil {
		out.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			last := len(r.Headers) - 1
			if last < 0 || r.Headers[last].Key != pathHeader || !strings.HasPrefix(string(r.Headers[last].Value), "shop@") {
				t.Errorf("headers %v do not end with where the record has been", r.Headers)
				return
			}
			if r.Headers = r.Headers[:last]; last == 0 {
				r.Headers = nil
			}
			got = append(got, show(r, r.Topic))
		})
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records at the destination (-want +got):\n%s", diff)
	}
	for _, topic := range []string{"shop.other", "shop.__internal"} {
		if dst.TopicInfo(topic) != nil {
			t.Errorf("topic %s was carried", topic)
		}
	}
	if got := len(dst.PartitionInfos("shop.sensors")); got != 3 {
		t.Errorf("destination has %d partitions, want 3", got)
	}
}

func show(r *kgo.Record, topic string) string {
	return fmt.Sprintf("%s/%d %q %q %v %d", topic, r.Partition, r.Key, r.Value, r.Headers, r.Timestamp.UnixMilli())
}

func TestResumesWithoutDuplicates(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(2, "sensors")), cluster(t)
	cl := client(t, src.ListenAddrs())
	for run := range 3 {
		write(t, cl, "sensors", 2, run*500, (run+1)*500)
		r, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
		read(t, dst.ListenAddrs(), "sensors", (run+1)*500)
		stop()
		if got := resent(r); got != 0 {
			t.Errorf("run %d: %d records reported as sent again, want 0", run, got)
		}
	}
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 1500), 2, 1500); again != 0 {
		t.Errorf("%d duplicates after clean stops, want 0", again)
	}
}

// noTransactions has a destination refuse them.
func noTransactions(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.InitProducerIDRequest)
		if req.TransactionalID == nil {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return resp, nil, true
	})
}

// The box stops with the last commits lost, as at a power cut. Positions are
// in the destination: nothing comes again. Without transactions what is sent
// again is there again, in order, and its number is told.
func TestUncleanStop(t *testing.T) {
	for name, want := range map[string]int{exactlyOnce: 0, atLeastOnce: 250} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
			if name == atLeastOnce {
				noTransactions(dst)
			}
			cl := client(t, src.ListenAddrs())
			write(t, cl, "sensors", 1, 0, 100)
			_, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
			read(t, dst.ListenAddrs(), "sensors", 100)
			stop()

			lost := src.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: -1})
			write(t, cl, "sensors", 1, 100, 350)
			r, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
			read(t, dst.ListenAddrs(), "sensors", 350)
			stop()
			lost.Remove()
			if got, _ := fact(r, "guarantee"); got != name {
				t.Errorf("guarantee %q, want %q", got, name)
			}

			write(t, cl, "sensors", 1, 350, 400)
			r, stop = start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
			read(t, dst.ListenAddrs(), "sensors", 400)
			stop()
			again := check(t, read(t, dst.ListenAddrs(), "sensors", 400), 1, 400)
			if again != want || resent(r) != int64(want) {
				t.Errorf("%d duplicates, %d reported, want %d of both", again, resent(r), want)
			}
		})
	}
}

// fact returns what the status says of the first link.
func fact(r *Replicator, name string) (string, bool) {
	for _, f := range r.Status().Facts {
		if f.Name == "hq: "+name {
			return f.Value, true
		}
	}
	return "", false
}

// A link that is to carry exactly once or not at all carries nothing to a
// destination without transactions, and says why.
func TestExactlyOnceOrNothing(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	noTransactions(dst)
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 10)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Guarantee = site.ExactlyOnce
	r, _ := start(t, cfg)
	eventually(t, "the refusal is told", func() bool { return strings.Contains(linkOf(r).Error, "grants no transactions") })
	if n := linkEnds(dst, 1); n != 0 {
		t.Errorf("%d records were carried", n)
	}
}

// A second replicator with the name of the first takes its place; what the
// first has on its way is not carried.
func TestZombieIsFenced(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	cl := client(t, src.ListenAddrs())
	old, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	write(t, cl, "sensors", 1, 0, 100)
	read(t, dst.ListenAddrs(), "sensors", 100)
	start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	for n := 100; n < 1000; n += 100 {
		write(t, cl, "sensors", 1, n, n+100)
		read(t, dst.ListenAddrs(), "sensors", n+100)
	}
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 1000), 1, 1000); again != 0 {
		t.Errorf("%d duplicates from two replicators, want 0", again)
	}
	eventually(t, "the fence is told", func() bool {
		note, _ := fact(old, "note")
		return strings.Contains(note, "does a second replicator run")
	})
}

func TestDestinationAwayAndBack(t *testing.T) {
	src := cluster(t, kfake.SeedTopics(1, "sensors"))
	cl := client(t, src.ListenAddrs())
	dir := t.TempDir()
	dst := cluster(t, kfake.DataDir(dir))
	addr := dst.ListenAddrs()[0]
	port := port(t, addr)
	dst.Close()

	write(t, cl, "sensors", 1, 0, 100)
	r, _ := start(t, config(src.ListenAddrs(), addr))
	eventually(t, "link is down, 100 records wait, and it says why", func() bool {
		l := linkOf(r)
		return !l.Up && l.Lag == 100 && l.Error != ""
	})
	if rep := r.Status(); !rep.OK || r.Healthy() != nil {
		t.Errorf("an absent centre made the box unwell: OK %v, Healthy %v", rep.OK, r.Healthy())
	}

	dst = cluster(t, kfake.DataDir(dir), kfake.Ports(port))
	read(t, dst.ListenAddrs(), "sensors", 100)
	eventually(t, "link is up and nothing waits", func() bool { l := linkOf(r); return l.Up && l.Lag == 0 && l.Error == "" })

	dst.Close()
	write(t, cl, "sensors", 1, 100, 3000)
	eventually(t, "link is down and 2900 records wait", func() bool { l := linkOf(r); return !l.Up && l.Lag == 2900 })
	dst = cluster(t, kfake.DataDir(dir), kfake.Ports(port))
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 3000), 1, 3000); again != 0 {
		t.Errorf("%d duplicates after an outage, want 0", again)
	}
}

// A refusal stops its partition before the refused record and no other.
func TestRefusedPartitionWaitsInOrder(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(2, "sensors")), cluster(t, kfake.SeedTopics(2, "sensors"))
	cl := client(t, src.ListenAddrs())
	refuse := dst.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: "sensors", Partitions: []int32{0}, Err: kerr.TopicAuthorizationFailed, Count: -1,
	})
	write(t, cl, "sensors", 2, 0, 1000)
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	eventually(t, "the other partition is carried and the refusal reported", func() bool {
		rep := r.Status()
		return len(rep.Flows) == 1 && rep.Flows[0].Records == 500 && !rep.OK && rep.Links[0].Error != ""
	})
	write(t, cl, "sensors", 2, 1000, 1500)
	refuse.Remove()
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 1500), 2, 1500); again != 0 {
		t.Errorf("%d duplicates after a refusal, want 0", again)
	}
	eventually(t, "all is well again", func() bool { rep := r.Status(); return rep.OK && rep.Links[0].Error == "" })
}

// The destination appends and says that it timed out: the same batch comes
// again and must not be there twice.
func TestLostAnswerMakesNoDuplicate(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 500)
	dst.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 2})
	start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 500), 1, 500); again != 0 {
		t.Errorf("%d duplicates after a lost answer, want 0", again)
	}
}

func TestNewTopicsAndPartitionsAreFound(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Links[0].Topics = []string{"s*"}
	start(t, cfg)
	cl := client(t, src.ListenAddrs())
	write(t, cl, "sensors", 1, 0, 10)
	read(t, dst.ListenAddrs(), "sensors", 10)

	if err := src.CreateTopic("signals", 2, nil); err != nil {
		t.Fatal(err)
	}
	write(t, cl, "signals", 2, 0, 10)
	check(t, read(t, dst.ListenAddrs(), "signals", 10), 2, 10)

	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "signals", Count: 4}}
	req.TimeoutMillis = 5000
	if _, err := req.RequestWith(t.Context(), cl); err != nil {
		t.Fatal(err)
	}
	grown := client(t, src.ListenAddrs())
	if err := grown.ProduceSync(t.Context(), &kgo.Record{Topic: "signals", Partition: 3, Value: []byte("10")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dst.ListenAddrs(), "signals", 11); !slices.Equal(got[3], []int{10}) {
		t.Errorf("partition 3 at the destination holds %v, want [10]", got[3])
	}
}

func TestDeletedBeforeCarriedIsTold(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	cl := client(t, src.ListenAddrs())
	write(t, cl, "sensors", 1, 0, 10)
	_, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	read(t, dst.ListenAddrs(), "sensors", 10)
	stop()
	write(t, cl, "sensors", 1, 10, 30)
	if err := src.DeleteRecords("sensors", 0, 25); err != nil {
		t.Fatal(err)
	}
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	got := read(t, dst.ListenAddrs(), "sensors", 15)
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 25, 26, 27, 28, 29}, got[0]); diff != "" {
		t.Errorf("destination (-want +got):\n%s", diff)
	}
	want := manifest.Fact{Name: "hq: note", Value: "sensors/0: offsets 10 to 24 were deleted at the source before they were carried"}
	if !slices.Contains(r.Status().Facts, want) {
		t.Errorf("facts = %v, want among them %v", r.Status().Facts, want)
	}
}

// The centre comes back empty: it gets all that the box still has, and the
// page says so.
func TestWipedDestinationIsFilledAgain(t *testing.T) {
	for name, exact := range map[string]bool{exactlyOnce: true, atLeastOnce: false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
			if !exact {
				noTransactions(dst)
			}
			cl := client(t, src.ListenAddrs())
			addr := dst.ListenAddrs()[0]
			write(t, cl, "sensors", 1, 0, 10)
			r, _ := start(t, config(src.ListenAddrs(), addr))
			read(t, []string{addr}, "sensors", 10)
			dst.Close()
			dst = cluster(t, kfake.Ports(port(t, addr)))
			if !exact {
				noTransactions(dst)
			}
			write(t, cl, "sensors", 1, 10, 20)
			if again := check(t, read(t, []string{addr}, "sensors", 20), 1, 20); again != 0 {
				t.Errorf("%d duplicates", again)
			}
			eventually(t, "the wiping is told", func() bool {
				return strings.Contains(fmt.Sprint(r.Status().Facts), "it was wiped or is another cluster")
			})
		})
	}
}

// A destination that accepts connections and says nothing does not keep the
// replicator from stopping.
func TestStopsWhileTheCentreIsSilent(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	src := cluster(t, kfake.SeedTopics(1, "sensors"))
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 10)
	r, stop := start(t, config(src.ListenAddrs(), ln.Addr().String()))
	eventually(t, "the lag is known", func() bool { return linkOf(r).Lag == 10 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(9 * time.Second):
		t.Error("Run has not returned")
	}
}

func TestWithoutLinksIsReadyAndIdle(t *testing.T) {
	t.Parallel()
	for _, links := range [][]site.Link{nil, {{Name: "hq", Bootstrap: []string{"127.0.0.1:1"}}}} {
		r, stop := start(t, Config{Links: links, Source: []string{"127.0.0.1:1"}})
		if rep := r.Status(); !rep.OK || r.Healthy() != nil {
			t.Errorf("links %v: OK %v, Healthy %v", links, rep.OK, r.Healthy())
		}
		stop()
	}
}

func TestNewRefuses(t *testing.T) {
	ok := site.Link{Name: "hq", Bootstrap: []string{"127.0.0.1:1"}, Topics: []string{"a"}}
	noServer, noName := ok, ok
	noServer.Bootstrap, noName.Name = nil, ""
	for name, links := range map[string][]site.Link{"no server": {noServer}, "no name": {noName}, "twice": {ok, ok}} {
		if _, err := New(Config{Links: links, Source: []string{"127.0.0.1:1"}}); err == nil {
			t.Errorf("%s: New accepted it", name)
		}
	}
}
