package group_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// classic behaves as a consumer of the classic protocol does: an eager one
// gives everything up before it joins again, a cooperative one what it is
// told, and then joins once more.
type classic struct {
	b           *bench
	id          string
	instance    string
	topics      []string
	cooperative bool
	generation  int32
	owned       map[string]bool // "topic/partition"
	protocol    string
}

func (b *bench) classic(cooperative bool, topics ...string) *classic {
	return &classic{b: b, topics: topics, cooperative: cooperative, owned: map[string]bool{}, generation: -1, protocol: "range"}
}

func (c *classic) has() string { return strings.Join(slices.Sorted(mapKeys(c.owned)), " ") }

func (c *classic) member() group.Member {
	return group.Member{Group: "g", ID: c.id, Instance: c.instance, Generation: c.generation}
}

func (c *classic) request() group.JoinRequest {
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Version, sub.Topics = 1, c.topics
	if !c.cooperative {
		c.owned = map[string]bool{}
	}
	for _, at := range slices.Sorted(mapKeys(c.owned)) {
		name, part, _ := strings.Cut(at, "/")
		var p int32
		fmt.Sscan(part, &p)
		sub.OwnedPartitions = append(sub.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: name, Partitions: []int32{p}})
	}
	r := request(c.id)
	r.Instance, r.Protocols = c.instance, []group.Protocol{{Name: c.protocol, Metadata: sub.AppendTo(nil)}}
	return r
}

// join joins and asks for the assignment, once.
func (c *classic) join() error { return c.joined(c.b.m.Join(c.b.t.Context(), c.request())) }

func (c *classic) joined(res group.JoinResult) error {
	c.id = res.MemberID
	if res.Err != nil {
		return c.failed(res.Err)
	}
	c.generation = res.Generation
	sync := group.SyncRequest{Member: c.member(), ProtocolType: res.ProtocolType, Protocol: res.Protocol, Assignments: map[string][]byte{}}
	if res.Leader == c.id { // everything to itself
		var a kmsg.ConsumerMemberAssignment
		for _, name := range c.topics {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: name, Partitions: []int32{0, 1, 2, 3}})
		}
		sync.Assignments[c.id] = a.AppendTo(nil)
	}
	return c.synced(c.b.m.Sync(c.b.t.Context(), sync))
}

func (c *classic) synced(res group.SyncResult) error {
	if res.Err != nil {
		return c.failed(res.Err)
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(res.Assignment); len(res.Assignment) > 0 && err != nil {
		c.b.t.Fatalf("assignment: %v", err)
	}
	now := map[string]bool{}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			now[fmt.Sprint(t.Topic, "/", p)] = true
		}
	}
	again := false
	for at := range c.owned {
		again = again || !now[at]
	}
	c.owned = now
	if again {
		return c.join()
	}
	return nil
}

func (c *classic) failed(err error) error {
	switch {
	case errors.Is(err, kerr.UnknownMemberID):
		c.id, c.generation, c.owned = "", -1, map[string]bool{}
	case errors.Is(err, kerr.IllegalGeneration):
		c.generation, c.owned = -1, map[string]bool{}
	}
	return err
}

// beat says that it lives, and joins again when it is told to.
func (c *classic) beat() error {
	err := c.b.m.Heartbeat(c.member())
	if err == nil {
		return nil
	}
	c.failed(err)
	return c.join()
}

// settleMixed has everybody speak until nothing changes any more.
func (b *bench) settleMixed(cs []*classic, ks ...*consumer) {
	b.t.Helper()
	for range 30 {
		for _, c := range cs {
			if err := c.beat(); err != nil {
				b.t.Logf("heartbeat of %s: %v", c.id, err)
			}
			b.apart(cs, ks)
		}
		for _, k := range ks {
			if err := k.beat(); err != nil {
				b.t.Logf("heartbeat of %s: %v", k.id, err)
			}
			b.apart(cs, ks)
		}
		if info, err := b.m.DescribeConsumer("g"); err == nil && info.State == group.Stable && len(info.Members) == len(cs)+len(ks) {
			return
		}
	}
	info, _ := b.m.DescribeConsumer("g")
	b.t.Fatalf("the group does not settle: %+v", info)
}

// apart checks that no two have the same partition.
func (b *bench) apart(cs []*classic, ks []*consumer) {
	b.t.Helper()
	by := map[string]string{}
	note := func(id string, owned map[string]bool) {
		for at := range owned {
			if by[at] != "" {
				b.t.Fatalf("%s and %s both have %s", by[at], id, at)
			}
			by[at] = id
		}
	}
	for _, c := range cs {
		note(c.id, c.owned)
	}
	for _, k := range ks {
		note(k.id, k.owned)
	}
}

func (b *bench) wantCounts(what string, cs []*classic, ks []*consumer, all int) {
	b.t.Helper()
	n := 0
	for _, c := range cs {
		n += len(c.owned)
	}
	for _, k := range ks {
		n += len(k.owned)
	}
	if n != all {
		b.t.Errorf("%s: %d partitions are consumed, want %d", what, n, all)
	}
}

// TestMigration: a classic group goes over to the consumer protocol member by
// member, through a restart, and back.
func TestMigration(t *testing.T) {
	for _, cooperative := range []bool{false, true} {
		run(t, func(b *bench) {
			b.topic("a", 4)
			c := b.classic(cooperative, "a")
			b.want("classic joins", c.join(), nil)
			if c.has() != "a/0 a/1 a/2 a/3" {
				t.Fatalf("the classic member has %q", c.has())
			}
			generation := c.generation
			k := b.consumer("new", "a")
			b.want("the new protocol joins", k.beat(), nil)
			b.wantHas(k, "")
			if info, err := b.m.DescribeConsumer("g"); err != nil || len(info.Members) != 2 || !info.Members[0].Classic || info.Members[1].Classic {
				t.Errorf("group: %+v, %v", info, err)
			}
			b.want("commit meanwhile", b.mayCommit(c.member()), nil)
			b.want("the classic member learns of it", b.m.Heartbeat(c.member()), kerr.RebalanceInProgress)
			if cooperative { // it still consumes what it is about to give up
				res := b.m.Join(b.t.Context(), c.request())
				b.want("the new one asks meanwhile", k.beat(), nil)
				b.wantHas(k, "")
				b.want("the classic one goes on", c.joined(res), nil)
			}
			b.settleMixed([]*classic{c}, k)
			b.wantCounts("shared", []*classic{c}, []*consumer{k}, 4)
			if len(c.owned) != 2 || c.generation <= generation {
				t.Errorf("the classic member has %q in generation %d, before %d", c.has(), c.generation, generation)
			}
			late := b.classic(cooperative, "a")
			b.want("another classic member", late.join(), nil)
			b.settleMixed([]*classic{c, late}, k)
			b.wantCounts("of three", []*classic{c, late}, []*consumer{k}, 4)
			b.want("commit", b.mayCommit(c.member()), nil)
			before := c.member()
			before.Generation--
			b.want("commit of an older generation", b.mayCommit(before), kerr.IllegalGeneration)
			other := c.request()
			other.MemberID, other.Protocols[0].Name = "", "strange"
			b.want("a strange protocol", b.m.Join(b.t.Context(), other).Err, kerr.InconsistentGroupProtocol)

			b.powerCut()
			b.want("heartbeat after a power cut", b.m.Heartbeat(c.member()), nil)
			b.settleMixed([]*classic{c, late}, k)

			leave := k.request()
			leave.Epoch = -1
			b.want("the last of the new protocol leaves", k.send(leave).Err, nil)
			if info := b.m.Describe("g"); info.Type != group.Classic || info.State != group.Preparing || len(info.Members) != 2 {
				t.Errorf("group: %+v", info)
			}
			b.want("the classic members learn of it", b.m.Heartbeat(c.member()), kerr.RebalanceInProgress)
			joins := b.joinAll(c.request(), late.request())
			for i, m := range []*classic{c, late} {
				if joins[i].Err != nil {
					t.Fatal(joins[i].Err)
				}
				if joins[i].Leader == joins[i].MemberID {
					b.want("the leader", m.joined(joins[i]), nil)
				}
			}
			if info := b.m.Describe("g"); info.State != group.Stable {
				t.Errorf("group: %+v", info)
			}
			b.powerCut()
			if info := b.m.Describe("g"); info.Type != group.Classic || info.State != group.Stable || len(info.Members) != 2 {
				t.Errorf("group after a power cut: %+v", info)
			}
		})
	}
}

// TestMigrationEnds: who falls silent is removed, whichever it speaks, and the
// others go on.
func TestMigrationEnds(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 4)
		c, k := b.classic(true, "a"), b.consumer("new", "a")
		b.want("classic", c.join(), nil)
		b.want("new", k.beat(), nil)
		b.settleMixed([]*classic{c}, k)
		for range 11 { // the classic member's session of 10 s
			time.Sleep(time.Second)
			b.want("new", k.beat(), nil)
		}
		b.want("classic, late", b.m.Heartbeat(c.member()), kerr.UnknownMemberID)
		b.settle(k)
		b.wantHas(k, "a/0 a/1 a/2 a/3")

		c = b.classic(false, "a")
		b.want("classic joins again", c.join(), nil)
		for range 47 { // the new one's session of 45 s
			time.Sleep(time.Second)
			c.beat()
		}
		if info := b.m.Describe("g"); info.Type != group.Classic || info.State != group.Stable || c.has() != "a/0 a/1 a/2 a/3" {
			t.Errorf("group: %+v, the member has %q", info, c.has())
		}

		// One that is told to join again and does not is removed, too.
		b.want("new", k.beat(), kerr.UnknownMemberID)
		b.want("new joins again", k.beat(), nil)
		removed := false
		for range 120 {
			time.Sleep(time.Second)
			if err := b.m.Heartbeat(c.member()); errors.Is(err, kerr.UnknownMemberID) {
				removed = true
				break
			}
			k.beat()
		}
		if b.settle(k); !removed || k.has() != "a/0 a/1 a/2 a/3" {
			t.Errorf("a member that does not join again: removed %v, the other has %q", removed, k.has())
		}
	})
}

// TestStaticMemberMovesBack: an instance that comes back with the classic
// protocol has its place, and the group is classic with it.
func TestStaticMemberMovesBack(t *testing.T) {
	run(t, func(b *bench) {
		b.topic("a", 4)
		name := "box"
		k := b.consumer("new", "a")
		k.instance = &name
		b.settle(k)
		c := b.classic(false, "a")
		c.instance = name
		b.want("classic", c.join(), nil)
		if info := b.m.Describe("g"); info.Type != group.Classic || info.State != group.Stable || c.has() != "a/0 a/1 a/2 a/3" {
			t.Errorf("group: %+v, the member has %q", info, c.has())
		}
	})
}

// TestMigrationRefused: groups that are no consumers', or whose assignor has
// data of its own, stay what they are; so does every group if the broker is
// told so.
func TestMigrationRefused(t *testing.T) {
	policy := ""
	setting := func(name string) string {
		if name == "group.consumer.migration.policy" {
			return policy
		}
		return ""
	}
	user := kmsg.ConsumerMemberAssignment{UserData: []byte("mine")}
	for name, tt := range map[string]struct {
		policy     string
		edit       func(*group.JoinRequest)
		assignment []byte
		want       error
	}{
		"by default":    {"", func(*group.JoinRequest) {}, nil, nil},
		"upgrade":       {"UPGRADE", func(*group.JoinRequest) {}, nil, nil},
		"downgrade":     {"downgrade", func(*group.JoinRequest) {}, nil, kerr.GroupIDNotFound},
		"disabled":      {"disabled", func(*group.JoinRequest) {}, nil, kerr.GroupIDNotFound},
		"no consumers":  {"", func(r *group.JoinRequest) { r.ProtocolType = "connect" }, nil, kerr.GroupIDNotFound},
		"no metadata":   {"", func(r *group.JoinRequest) { r.Protocols[0].Metadata = []byte("m") }, nil, kerr.GroupIDNotFound},
		"no assignment": {"", func(*group.JoinRequest) {}, []byte("a"), kerr.GroupIDNotFound},
		"user data":     {"", func(*group.JoinRequest) {}, user.AppendTo(nil), kerr.GroupIDNotFound},
	} {
		run(t, func(b *bench) {
			policy = tt.policy
			b.m.Setting = setting
			b.topic("a", 4)
			c := b.classic(true, "a")
			r := c.request()
			tt.edit(&r)
			joined := b.m.Join(b.t.Context(), r)
			c.id, c.generation = joined.MemberID, joined.Generation
			b.want(name, b.m.Sync(b.t.Context(), group.SyncRequest{Member: c.member(), Assignments: map[string][]byte{c.id: tt.assignment}}).Err, nil)
			k := b.consumer("new", "a")
			b.want(name, k.beat(), tt.want)
			if tt.want != nil {
				b.want(name+", the classic member goes on", b.m.Heartbeat(c.member()), nil)
				return
			}
			k.epoch = -1
			k.beat()
			synctest.Wait()
			if info := b.m.Describe("g"); (info.Type == group.Classic && info.State == group.Preparing) != (tt.policy == "") {
				t.Errorf("%s: after the new member has left: %+v", name, info)
			}
		})
	}
}

// TestMigrationAtRandom: whoever comes, goes, restarts or falls silent, and
// whatever it speaks, nothing is consumed by two, and in the end everything is
// by one.
func TestMigrationAtRandom(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 8))
		run(t, func(b *bench) {
			b.topic("a", 4)
			b.topic("b", 3)
			var cs []*classic
			ks := []*consumer{b.consumer("k", "a", "b")}
			b.want("first", ks[0].beat(), nil)
			for i := range 120 {
				switch n := rng.IntN(20); {
				case n == 0 && len(cs) < 4:
					c := b.classic(rng.IntN(2) == 0, []string{"a", "b"}[:1+rng.IntN(2)]...)
					c.join()
					cs = append(cs, c)
				case n == 1 && len(ks) < 4:
					k := b.consumer(fmt.Sprint("k", i), "a", "b")
					k.beat()
					ks = append(ks, k)
				case n == 2 && len(cs) > 0:
					at := rng.IntN(len(cs))
					b.m.Leave("g", cs[at].id, "")
					synctest.Wait() // else a power cut may take it back
					cs = slices.Delete(cs, at, at+1)
				case n == 3 && len(ks) > 1:
					at := rng.IntN(len(ks))
					r := ks[at].request()
					r.Epoch = -1
					ks[at].send(r)
					ks = slices.Delete(ks, at, at+1)
				case n == 4:
					b.powerCut()
				case n == 5:
					time.Sleep(time.Second)
				case n < 12 && len(cs) > 0:
					cs[rng.IntN(len(cs))].beat()
				default:
					ks[rng.IntN(len(ks))].beat()
				}
				b.apart(cs, ks)
			}
			b.settleMixed(cs, ks...)
			b.wantCounts(fmt.Sprint("seed ", seed), cs, ks, 7)
		})
	}
}
