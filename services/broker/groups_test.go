package broker_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// at has a broker listen where another did.
func at(t *testing.T, addr string) func(*broker.Config) {
	return func(c *broker.Config) {
		for _, ln := range c.Listeners {
			ln.Close()
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Listeners = []net.Listener{ln}
	}
}

// quick has members of the consumer protocol speak often.
func quick(t *testing.T, b *running) {
	t.Helper()
	adm := kadm.NewClient(client(t, b))
	rs, err := adm.AlterBrokerConfigs(within(t), []kadm.AlterConfig{
		{Name: "group.consumer.heartbeat.interval.ms", Value: kadm.StringPtr("50")},
		{Name: "group.consumer.session.timeout.ms", Value: kadm.StringPtr("5000")},
	})
	must(t, err)
	for _, r := range rs {
		must(t, r.Err)
	}
}

// crew are members of one group that consume and commit.
type crew struct {
	t     *testing.T
	topic string
	opts  []kgo.Opt

	mu      sync.Mutex
	seen    map[string]int    // value -> how often
	owner   map[string]string // partition -> member that has it
	clashes []string
	moves   int // partitions lost or given up
	wg      sync.WaitGroup
}

func newCrew(t *testing.T, topic string, opts ...kgo.Opt) *crew {
	return &crew{t: t, topic: topic, opts: opts, seen: map[string]int{}, owner: map[string]string{}}
}

// join starts a member; leave ends it. opts go before the crew's.
func (c *crew) join(b *running, name string, opts ...kgo.Opt) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	cl := client(c.t, b, append([]kgo.Opt{
		kgo.ConsumerGroup("g"), kgo.ConsumeTopics(c.topic), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(5 * time.Second), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { c.assigned(name, ps) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { c.gone(name, ps) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) { c.gone(name, ps) }),
	}, append(slices.Clone(c.opts), opts...)...)...)
	done := make(chan struct{})
	c.wg.Go(func() {
		defer close(done)
		for ctx.Err() == nil {
			fs := cl.PollFetches(ctx)
			c.mu.Lock()
			for _, r := range fs.Records() {
				c.seen[string(r.Value)]++
			}
			c.mu.Unlock()
			if err := cl.CommitUncommittedOffsets(context.Background()); err != nil {
				c.t.Logf("commit of %s: %v", name, err)
			}
			cl.AllowRebalance()
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		<-done
		cl.CloseAllowingRebalance()
	})
}

func (c *crew) assigned(name string, ps map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ps[c.topic] {
		at := fmt.Sprint(p)
		if other, taken := c.owner[at]; taken {
			c.clashes = append(c.clashes, fmt.Sprintf("partition %s is with %s and %s", at, other, name))
		}
		c.owner[at] = name
	}
}

func (c *crew) gone(name string, ps map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range ps[c.topic] {
		c.moves++
		if at := fmt.Sprint(p); c.owner[at] == name {
			delete(c.owner, at)
		}
	}
}

// share waits until so many members have all partitions between them.
func (c *crew) share(members, partitions int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%d members share %d partitions", members, partitions), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		who := map[string]bool{}
		for _, name := range c.owner {
			who[name] = true
		}
		return len(c.owner) == partitions && len(who) == members
	})
}

// finish wants every record to have been consumed once.
func (c *crew) got(n int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprint(n, " records are consumed"), func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.seen) >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	for v, times := range c.seen {
		if times != 1 {
			c.t.Errorf("record %s was consumed %d times", v, times)
		}
	}
	if len(c.clashes) > 0 {
		c.t.Errorf("clashes: %v", c.clashes)
	}
}

var groupProtocols = map[string][]kgo.Opt{
	"cooperative": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
	"range":       {kgo.Balancers(kgo.RangeBalancer())},
	"consumer":    {kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()},
}

// TestMembersComeAndGo under load: each record is consumed once, and no
// partition is with two members at a time.
func TestMembersComeAndGo(t *testing.T) {
	const partitions = 6
	for name, opts := range groupProtocols {
		t.Run(name, func(t *testing.T) {
			b := start(t, vfs.NewCrashable(1), func(c *broker.Config) { c.Topics = []site.Topic{{Name: "t", Partitions: partitions}} })
			quick(t, b)
			c := newCrew(t, "t", opts...)
			n := 0
			put := func() {
				cl := client(t, b)
				for range 60 {
					produce(t, cl, &kgo.Record{Topic: "t", Key: fmt.Append(nil, n), Value: fmt.Append(nil, n)})
					n++
				}
			}
			one := c.join(b, "one")
			c.share(1, partitions)
			put()
			two := c.join(b, "two")
			put()
			c.share(2, partitions)
			three := c.join(b, "three")
			c.share(3, partitions)
			gs, err := kadm.NewClient(client(t, b)).ListGroupsByType(within(t), []string{map[bool]string{true: "consumer", false: "classic"}[name == "consumer"]})
			if err != nil || len(gs) != 1 {
				t.Errorf("groups of that type: %v, %v", gs, err)
			}
			put()
			one()
			c.share(2, partitions)
			put()
			c.got(n)
			two()
			three()
			c.wg.Wait()
		})
	}
}

// TestMembersMoveOver: a group goes over to the consumer protocol and back,
// member by member and under load.
func TestMembersMoveOver(t *testing.T) {
	const partitions = 6
	for _, name := range []string{"cooperative", "range"} {
		t.Run(name, func(t *testing.T) {
			b := start(t, vfs.NewCrashable(1), func(c *broker.Config) { c.Topics = []site.Topic{{Name: "t", Partitions: partitions}} })
			quick(t, b)
			old, young := groupProtocols[name], groupProtocols["consumer"]
			c := newCrew(t, "t")
			n := 0
			put := func() {
				cl := client(t, b)
				for range 60 {
					produce(t, cl, &kgo.Record{Topic: "t", Key: fmt.Append(nil, n), Value: fmt.Append(nil, n)})
					n++
				}
			}
			is := func(want string) {
				t.Helper()
				gs, err := kadm.NewClient(client(t, b)).ListGroupsByType(within(t), []string{want})
				if err != nil || len(gs) != 1 {
					t.Errorf("groups of type %s: %v, %v", want, gs, err)
				}
			}
			one := c.join(b, "one", old...)
			c.share(1, partitions)
			is("classic")
			put()
			two := c.join(b, "two", young...)
			put()
			c.share(2, partitions)
			is("consumer")
			one()
			c.share(1, partitions)
			put()
			three := c.join(b, "three", old...)
			put()
			c.share(2, partitions)
			two()
			c.share(1, partitions)
			put()
			is("classic")
			c.got(n)
			three()
			c.wg.Wait()
		})
	}
}

// TestMembersOutliveRestart: the broker stops and starts, members go on, and
// no partition changes hands.
func TestMembersOutliveRestart(t *testing.T) {
	const partitions = 4
	for name, opts := range groupProtocols {
		t.Run(name, func(t *testing.T) {
			fsys := vfs.NewCrashable(1)
			b := start(t, fsys, func(c *broker.Config) { c.Topics = []site.Topic{{Name: "t", Partitions: partitions}} })
			quick(t, b)
			c := newCrew(t, "t", opts...)
			one, two := c.join(b, "one"), c.join(b, "two")
			c.share(2, partitions)
			put := func(b *running, from int) {
				cl := client(t, b)
				for i := from; i < from+50; i++ {
					produce(t, cl, &kgo.Record{Topic: "t", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)})
				}
			}
			put(b, 0)
			c.got(50)
			ids := memberIDs(t, b, name)
			c.mu.Lock()
			moves := c.moves
			c.mu.Unlock()
			must(t, b.stop())
			addr := b.addr
			b = start(t, fsys, at(t, addr))
			b.addr = addr
			put(b, 50)
			c.got(100)
			if after := memberIDs(t, b, name); !slices.Equal(ids, after) {
				t.Errorf("members %v, before the restart %v", after, ids)
			}
			c.mu.Lock()
			if c.moves != moves {
				t.Errorf("%d partitions changed hands", c.moves-moves)
			}
			c.mu.Unlock()
			one()
			two()
			c.wg.Wait()
		})
	}
}

// memberIDs are the ids and the generation or epoch of group g.
func memberIDs(t *testing.T, b *running, protocol string) (out []string) {
	t.Helper()
	adm := kadm.NewClient(client(t, b))
	if protocol == "consumer" {
		gs, err := adm.DescribeConsumerGroups(within(t), "g")
		must(t, err)
		must(t, gs.Error())
		for _, m := range gs["g"].Members {
			out = append(out, fmt.Sprint(m.MemberID, " ", m.MemberEpoch))
		}
	} else {
		gs, err := adm.DescribeGroups(within(t), "g")
		must(t, err)
		must(t, gs.Error())
		for _, m := range gs["g"].Members {
			out = append(out, m.MemberID)
		}
	}
	if len(out) != 2 {
		t.Errorf("members: %v", out)
	}
	slices.Sort(out)
	return out
}

// TestConsumerProtocolByRegex: the broker resolves the expression, and finds
// topics that are made later.
func TestConsumerProtocolByRegex(t *testing.T) {
	b := start(t, vfs.NewCrashable(1))
	quick(t, b)
	produce(t, client(t, b), &kgo.Record{Topic: "x-1", Value: []byte("first")}, &kgo.Record{Topic: "y", Value: []byte("other")})
	cl := client(t, b, kgo.ConsumerGroup("g"), kgo.ConsumeRegex(), kgo.ConsumeTopics("^x-.*"), kgo.ServerSideBalancer(),
		kgo.Balancers(kgo.StickyBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	if got := consume(t, cl, 1); string(got[0].Value) != "first" {
		t.Errorf("got %s", got[0].Value)
	}
	produce(t, client(t, b), &kgo.Record{Topic: "x-2", Value: []byte("second")})
	if got := consume(t, cl, 1); string(got[0].Value) != "second" {
		t.Errorf("got %s", got[0].Value)
	}
}

// TestGroupAdmin: groups are listed by type and state, offsets and groups are
// deleted when nobody uses them.
func TestGroupAdmin(t *testing.T) {
	b := start(t, vfs.NewCrashable(1), func(c *broker.Config) { c.Topics = []site.Topic{{Name: "t", Partitions: 2}} })
	quick(t, b)
	adm := kadm.NewClient(client(t, b))
	c := newCrew(t, "t", groupProtocols["consumer"]...)
	leave := c.join(b, "one")
	c.share(1, 2)
	var offs kadm.Offsets
	offs.AddOffset("t", 0, 5, -1)
	offs.AddOffset("t", 1, 6, -1)
	must(t, adm.CommitAllOffsets(within(t), "simple", offs))
	list := func(filter ...string) (out []string) {
		gs, err := adm.ListGroups(within(t), filter...)
		must(t, err)
		for _, g := range gs.Sorted() {
			out = append(out, g.Group+" "+g.State)
		}
		return out
	}
	if got := list(); !slices.Equal(got, []string{"g Stable", "simple Empty"}) {
		t.Errorf("groups: %v", got)
	}
	if got := list("empty"); !slices.Equal(got, []string{"simple Empty"}) {
		t.Errorf("empty groups: %v", got)
	}
	var some kadm.TopicsSet
	some.Add("t", 1)
	if rs, err := adm.DeleteOffsets(within(t), "g", some); err != nil || rs.Error() == nil {
		t.Errorf("offsets of a topic in use were deleted: %v", err)
	}
	rs, err := adm.DeleteOffsets(within(t), "simple", some)
	must(t, err)
	must(t, rs.Error())
	got, err := adm.FetchOffsets(within(t), "simple")
	must(t, err)
	if _, there := got.Lookup("t", 1); there || len(got.Sorted()) != 1 {
		t.Errorf("offsets: %+v", got)
	}
	if dels, err := adm.DeleteGroups(within(t), "g"); err != nil || dels.Error() == nil {
		t.Errorf("a group with members was deleted: %v", err)
	}
	leave()
	c.wg.Wait()
	dels, err := adm.DeleteGroups(within(t), "simple")
	must(t, err)
	must(t, dels.Error())
	eventually(t, "the other group is empty or gone", func() bool { l := list(); return len(l) == 0 || l[0] == "g Empty" })
}
