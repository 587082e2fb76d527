package group_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
)

var ids = map[string]meta.ID{"a": {0xa}, "b": {0xb}, "c": {0xc}}

func (b *bench) topic(name string, partitions int32) {
	b.t.Helper()
	if err := b.meta.PutTopic(meta.Topic{Name: name, ID: ids[name], Partitions: partitions}); err != nil {
		b.t.Fatal(err)
	}
}

// consumer behaves as a client of the consumer protocol does.
type consumer struct {
	b        *bench
	id       string
	instance *string
	topics   []string
	regex    *string
	epoch    int32
	owned    map[string]bool // "topic/partition"
	assigned map[string]bool
	fresh    bool // the next request is a full one
}

func (b *bench) consumer(id string, topics ...string) *consumer {
	return &consumer{b: b, id: id, topics: topics, owned: map[string]bool{}, fresh: true}
}

func (c *consumer) request() group.HeartbeatRequest {
	r := group.HeartbeatRequest{Group: "g", MemberID: c.id, Epoch: c.epoch, Rebalance: -1, Client: "c"}
	if c.fresh || c.epoch == 0 {
		r.Rebalance, r.Topics, r.Regex, r.Instance = time.Minute, c.topics, c.regex, c.instance
		if r.Topics == nil && r.Regex == nil {
			r.Topics = []string{}
		}
	}
	r.Owned = []meta.GroupPartition{}
	for _, at := range slices.Sorted(mapKeys(c.owned)) {
		name, part, _ := strings.Cut(at, "/")
		var p int32
		fmt.Sscan(part, &p)
		r.Owned = append(r.Owned, meta.GroupPartition{Topic: ids[name], Partitions: []int32{p}})
	}
	return r
}

func mapKeys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (c *consumer) send(r group.HeartbeatRequest) group.HeartbeatResult {
	return c.b.m.ConsumerHeartbeat(c.b.t.Context(), r)
}

// beat sends one heartbeat and takes what it is told.
func (c *consumer) beat() error {
	res := c.send(c.request())
	c.take(res)
	return res.Err
}

func (c *consumer) take(res group.HeartbeatResult) {
	switch res.Err {
	case nil:
		c.epoch, c.fresh = res.Epoch, false
	case kerr.FencedMemberEpoch, kerr.UnknownMemberID:
		c.epoch, c.fresh, c.owned, c.assigned = 0, true, map[string]bool{}, nil
		return
	default:
		c.fresh = true
		return
	}
	if res.Assigned == nil {
		return
	}
	c.assigned = map[string]bool{}
	for _, p := range res.Assigned {
		for name, id := range ids {
			for _, n := range p.Partitions {
				if id == p.Topic {
					c.assigned[fmt.Sprint(name, "/", n)] = true
				}
			}
		}
	}
	for at := range c.owned {
		if !c.assigned[at] {
			delete(c.owned, at) // revoked, and its offsets committed
		}
	}
	for at := range c.assigned {
		c.owned[at] = true
	}
}

func (c *consumer) has() string { return strings.Join(slices.Sorted(mapKeys(c.owned)), " ") }

func (c *consumer) member() group.Member {
	return group.Member{Group: "g", ID: c.id, Generation: c.epoch}
}

// settle has everybody send heartbeats until the group is stable.
func (b *bench) settle(cs ...*consumer) {
	b.t.Helper()
	for range 20 {
		for _, c := range cs {
			if err := c.beat(); err != nil {
				b.t.Logf("heartbeat of %s: %v", c.id, err)
			}
		}
		if info, err := b.m.DescribeConsumer("g"); err == nil && info.State == group.Stable && info.Epoch == cs[0].epoch {
			return
		}
	}
	info, _ := b.m.DescribeConsumer("g")
	b.t.Fatalf("the group does not settle: %+v", info)
}

func (b *bench) wantHas(c *consumer, want string) {
	b.t.Helper()
	if diff := cmp.Diff(want, c.has()); diff != "" {
		b.t.Errorf("%s has (-want +got):\n%s", c.id, diff)
	}
}

// TestConsumersShare: one gives up before the other gets.
func TestConsumersShare(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 4)
		one, two := b.consumer("one", "a"), b.consumer("two", "a")
		b.want("first", one.beat(), nil)
		b.wantHas(one, "a/0 a/1 a/2 a/3")
		b.want("second", two.beat(), nil)
		b.wantHas(two, "")
		if info, _ := b.m.DescribeConsumer("g"); info.State != group.Reconciling {
			t.Errorf("group is %s", info.State)
		}
		b.want("first is told", one.beat(), nil)
		b.want("second gets nothing yet", two.beat(), nil)
		b.wantHas(two, "")
		b.want("first says that it gave up", one.beat(), nil)
		b.want("second", two.beat(), nil)
		b.wantHas(two, "a/2 a/3")
		b.settle(one, two)

		b.topic("a", 6)
		b.settle(one, two)
		b.wantHas(one, "a/0 a/1 a/4")
		leave := two.request()
		leave.Epoch = -1
		if res := two.send(leave); res.Err != nil || res.Epoch != -1 {
			t.Errorf("leave: %+v", res)
		}
		b.settle(one)
		b.wantHas(one, "a/0 a/1 a/2 a/3 a/4 a/5")
		b.want("one that left", two.beat(), kerr.UnknownMemberID)
	})
}

// TestConsumersAfterPowerCut: nobody is fenced, epochs and assignments are as
// they were.
func TestConsumersAfterPowerCut(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 4)
		b.topic("b", 2)
		expr := "a|b"
		one, two := b.consumer("one", "a"), b.consumer("two")
		two.regex = &expr
		b.settle(one, two)
		before, _ := b.m.DescribeConsumer("g")
		b.powerCut()
		after, err := b.m.DescribeConsumer("g")
		if diff := cmp.Diff(before, after); err != nil || diff != "" {
			t.Errorf("group (-before +after): %v\n%s", err, diff)
		}
		for _, c := range []*consumer{one, two} {
			epoch, has := c.epoch, c.has()
			b.want("commit", b.mayCommit(c.member()), nil)
			b.want("heartbeat", c.beat(), nil)
			if c.epoch != epoch || c.has() != has {
				t.Errorf("%s: epoch %d with %q, before %d with %q", c.id, c.epoch, c.has(), epoch, has)
			}
		}
		time.Sleep(46 * time.Second)
		b.want("after its session", one.beat(), kerr.UnknownMemberID)
	})
}

func TestConsumerEpochs(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 2)
		one, two := b.consumer("one", "a"), b.consumer("two", "a")
		b.settle(one)
		old := one.request()
		b.settle(one, two)
		held := one.epoch
		old.Owned = one.request().Owned
		if res := one.send(old); res.Err != nil || res.Epoch != held {
			t.Errorf("previous epoch: %+v", res)
		}
		old.Owned = append(old.Owned, meta.GroupPartition{Topic: ids["b"], Partitions: []int32{0}})
		b.want("previous epoch with partitions of others", one.send(old).Err, kerr.FencedMemberEpoch)
		ahead := one.request()
		ahead.Epoch++
		b.want("epoch ahead", one.send(ahead).Err, kerr.FencedMemberEpoch)
		one.epoch, one.owned = 0, map[string]bool{}
		b.want("joins again in its place", one.beat(), nil)
		b.wantHas(one, "a/0")
		if one.epoch != held {
			t.Errorf("epoch %d, want %d as before", one.epoch, held)
		}

		commit := func(epoch, part int32) error {
			each, err := b.m.MayCommitEach(group.Commit{Member: group.Member{Group: "g", ID: "one", Generation: epoch}})
			if err == nil && each != nil {
				err = each(ids["a"], part)
			}
			return err
		}
		b.want("commit", commit(held, 0), nil)
		b.want("commit of an epoch ahead", commit(held+1, 0), kerr.StaleMemberEpoch)
		b.want("commit of an epoch ago, had since", commit(held-1, 0), nil)
		b.want("commit of an epoch ago, given up", commit(held-1, 1), kerr.StaleMemberEpoch)
		b.want("fetch", b.m.MayFetch("g", "one", held), nil)
		b.want("fetch of an epoch ago", b.m.MayFetch("g", "one", held-1), kerr.StaleMemberEpoch)
		b.want("fetch of a stranger", b.m.MayFetch("g", "who", 1), kerr.UnknownMemberID)
		b.want("fetch of an administrator", b.m.MayFetch("g", "", -1), nil)
		_, err := b.m.MayCommitEach(group.Commit{Member: one.member(), Old: true})
		b.want("commit that knows no epochs", err, kerr.UnsupportedVersion)
	})
}

func TestConsumerRefused(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 1)
		empty, bad, long := "", "(", strings.Repeat("a", 1<<20)
		for name, tt := range map[string]struct {
			edit func(*group.HeartbeatRequest)
			want error
		}{
			"no group":          {func(r *group.HeartbeatRequest) { r.Group = "" }, kerr.InvalidRequest},
			"no member id":      {func(r *group.HeartbeatRequest) { r.MemberID = "" }, kerr.InvalidRequest},
			"no subscription":   {func(r *group.HeartbeatRequest) { r.Topics = nil }, kerr.InvalidRequest},
			"no timeout":        {func(r *group.HeartbeatRequest) { r.Rebalance = -1 }, kerr.InvalidRequest},
			"owns already":      {func(r *group.HeartbeatRequest) { r.Owned = []meta.GroupPartition{{}} }, kerr.InvalidRequest},
			"empty instance":    {func(r *group.HeartbeatRequest) { r.Instance = &empty }, kerr.InvalidRequest},
			"epoch -3":          {func(r *group.HeartbeatRequest) { r.Epoch = -3 }, kerr.InvalidRequest},
			"away, not static":  {func(r *group.HeartbeatRequest) { r.Epoch = -2 }, kerr.InvalidRequest},
			"unknown assignor":  {func(r *group.HeartbeatRequest) { r.Assignor = &bad }, kerr.UnsupportedAssignor},
			"bad expression":    {func(r *group.HeartbeatRequest) { r.Regex = &bad }, kerr.InvalidRegularExpression},
			"long expression":   {func(r *group.HeartbeatRequest) { r.Regex = &long }, kerr.GroupMaxSizeReached},
			"unknown member":    {func(r *group.HeartbeatRequest) { r.Epoch = 3 }, kerr.UnknownMemberID},
			"leaves, is not in": {func(r *group.HeartbeatRequest) { r.Epoch = -1 }, kerr.UnknownMemberID},
			"giant": {func(r *group.HeartbeatRequest) {
				for i := range 10000 {
					r.Topics = append(r.Topics, fmt.Sprintf("%0240d", i))
				}
			}, kerr.GroupMaxSizeReached},
		} {
			c := b.consumer("one", "a")
			r := c.request()
			tt.edit(&r)
			b.want(name, c.send(r).Err, tt.want)
			synctest.Wait()
			if _, err := b.m.DescribeConsumer("g"); err == nil {
				t.Errorf("%s: the group is there", name)
			}
		}
	})
}

func TestConsumerRegex(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 1)
		b.topic("b", 1)
		expr := "[ab]|ccc"
		c := b.consumer("one", "c")
		c.regex = &expr
		r := c.request()
		r.May = func(topic string) bool { return topic != "b" }
		c.take(c.send(r))
		b.wantHas(c, "a/0")
		b.topic("c", 1)
		r = c.request()
		r.May = nil
		c.take(c.send(r))
		b.settle(c)
		b.wantHas(c, "a/0 b/0 c/0")
		if err := b.meta.DeleteTopic(ids["a"]); err != nil {
			t.Fatal(err)
		}
		b.settle(c)
		b.wantHas(c, "b/0 c/0")
		none := ""
		c.regex, c.fresh = &none, true
		b.settle(c)
		b.wantHas(c, "c/0")
	})
}

func TestStaticConsumer(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 2)
		name := "i"
		one, two := b.consumer("one", "a"), b.consumer("two", "a")
		two.instance = &name
		b.settle(one, two)
		had, epoch := two.has(), one.epoch
		other := b.consumer("two-again", "a")
		other.instance = &name
		b.want("a second of the same name", other.beat(), kerr.UnreleasedInstanceID)
		away := two.request()
		away.Epoch, away.Instance = -2, &name
		b.want("leaves for now", two.send(away).Err, nil)
		b.powerCut()
		b.want("the other", one.beat(), nil)
		b.want("comes back", other.beat(), nil)
		if other.has() != had || one.epoch != epoch || other.epoch != epoch {
			t.Errorf("came back: %q at epoch %d, before %q at %d", other.has(), other.epoch, had, epoch)
		}
		zombie := two.request()
		zombie.Epoch, zombie.Instance = epoch, &name
		b.want("its former self", two.send(zombie).Err, kerr.FencedInstanceID)
		away = other.request()
		away.Epoch, away.Instance = -2, &name
		b.want("leaves for now", other.send(away).Err, nil)
		for range 12 {
			time.Sleep(5 * time.Second)
			one.beat()
		}
		b.settle(one)
		b.wantHas(one, "a/0 a/1")
	})
}

// TestSlowToGiveUp: a member that keeps what it must give up is removed after
// its rebalance timeout.
func TestSlowToGiveUp(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 2)
		one, two := b.consumer("one", "a"), b.consumer("two", "a")
		b.settle(one)
		two.beat()
		slow := one.request()
		one.send(slow) // is told, and goes on with all
		for range 13 {
			time.Sleep(5 * time.Second)
			slow.Owned = nil
			one.send(slow)
			two.beat()
		}
		b.want("the slow one", one.beat(), kerr.UnknownMemberID)
		b.settle(two)
		b.wantHas(two, "a/0 a/1")
	})
}

// TestGroupChangesType when nobody is in it; not before when nobody can read
// what its members say.
func TestGroupChangesType(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 1)
		leader, follower := b.stable()
		b.commit("g", 1)
		c := b.consumer("one", "a")
		b.want("consumer in a classic group", c.beat(), kerr.GroupIDNotFound)
		b.m.Leave("g", leader.MemberID, "")
		b.m.Leave("g", follower.MemberID, "")
		b.want("consumer in an empty group", c.beat(), nil)
		if c.epoch <= leader.Generation {
			t.Errorf("epoch %d after generation %d", c.epoch, leader.Generation)
		}
		b.powerCut()
		b.want("after a restart", c.beat(), nil)
		b.want("classic member in a consumer group", b.joinAll(request(""))[0].Err, kerr.InvalidRequest)
		b.want("removed by an administrator", b.m.Leave("g", "one", ""), nil)
		j := b.joinAll(request(""))[0]
		if j.Err != nil || j.Generation <= c.epoch {
			t.Errorf("classic again: %+v", j)
		}
		b.syncAs(j)
		b.powerCut()
		b.want("heartbeat", b.m.Heartbeat(member(j)), nil)
		if got := b.m.List(); len(got) != 1 || got[0].Type != group.Classic {
			t.Errorf("groups: %+v", got)
		}
	})
}

func TestGroupConfiguration(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 1)
		c := b.consumer("one", "a")
		r := c.request()
		if res := c.send(r); res.Interval != 5*time.Second {
			t.Errorf("interval %v", res.Interval)
		}
		config := map[string]string{"consumer.heartbeat.interval.ms": "700", "consumer.session.timeout.ms": "2000"}
		if err := b.meta.SetConfig(meta.Resource{Type: 32, Name: "g"}, config); err != nil {
			t.Fatal(err)
		}
		if res := c.send(r); res.Interval != 700*time.Millisecond {
			t.Errorf("interval %v", res.Interval)
		}
		time.Sleep(3 * time.Second)
		r.Epoch = 1
		b.want("after two seconds", c.send(r).Err, kerr.UnknownMemberID)
	})
}

// TestConsumersAtRandom drives members that come, go, die, lose answers, and
// a broker that loses power. At no time do two of them have a partition, and
// in the end each partition is with somebody.
func TestConsumersAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		run(t, func(b *bench) {
			rng := rand.New(rand.NewPCG(seed, 3))
			b.topic("a", 5)
			b.topic("b", 3)
			alive := map[string]*consumer{}
			var next int
			for range 150 {
				switch n := rng.IntN(20); {
				case n < 2 && len(alive) < 6:
					c := b.consumer(fmt.Sprint("m", next), []string{"a", "b", "c"}[:1+rng.IntN(3)]...)
					next++
					alive[c.id] = c
				case n == 2 && len(alive) > 0:
					c := pick(rng, alive)
					delete(alive, c.id)
					if rng.IntN(2) == 0 {
						r := c.request()
						r.Epoch = -1
						c.send(r)
					}
				case n == 3:
					b.powerCut()
				case n == 4:
					b.topic("c", int32(1+rng.IntN(4)))
				case n == 5 && len(alive) > 0:
					c := pick(rng, alive) // its answer is lost
					c.send(c.request())
					c.fresh = true
				case n == 6:
					time.Sleep(time.Duration(rng.IntN(20)) * time.Second)
				case len(alive) > 0:
					pick(rng, alive).beat()
				}
				checkAlone(t, seed, alive)
			}
			time.Sleep(44 * time.Second) // the dead are gone a second later
			for _, c := range alive {
				c.beat()
			}
			time.Sleep(20 * time.Second)
			if len(alive) == 0 {
				return
			}
			var all []*consumer
			for _, c := range alive {
				c.topics, c.fresh = []string{"a", "b"}, true
				all = append(all, c)
			}
			b.settle(all...)
			checkAlone(t, seed, alive)
			n := 0
			for _, c := range all {
				n += len(c.owned)
			}
			if n != 8 {
				t.Errorf("seed %d: %d of 8 partitions are with somebody", seed, n)
			}
		})
	}
}

func pick(rng *rand.Rand, alive map[string]*consumer) *consumer {
	keys := map[string]bool{}
	for k := range alive {
		keys[k] = true
	}
	return alive[slices.Sorted(mapKeys(keys))[rng.IntN(len(alive))]]
}

func checkAlone(t *testing.T, seed uint64, alive map[string]*consumer) {
	t.Helper()
	owner := map[string]string{}
	for id, c := range alive {
		for at := range c.owned {
			if other, taken := owner[at]; taken {
				t.Fatalf("seed %d: %s is with %s and %s", seed, at, id, other)
			}
			owner[at] = id
		}
	}
}
