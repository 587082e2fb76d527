package group_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/vfs"
)

// bench drives a manager with the clock of a synctest bubble.
type bench struct {
	t *testing.T
	m *group.Manager

	disk *vfs.Crashable
	meta *meta.Store
}

func run(t *testing.T, f func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, disk: vfs.NewCrashable(1)}
		b.open()
		defer b.close()
		f(b)
	})
}

func (b *bench) open() {
	b.t.Helper()
	st, err := meta.Open(b.disk, "meta")
	if err != nil {
		b.t.Fatal(err)
	}
	b.meta = st
	b.m = group.New(group.Options{Meta: st, Delay: 3 * time.Second, Retention: retention})
}

const retention = 24 * time.Hour

func (b *bench) close() {
	b.t.Helper()
	b.m.Close()
	if err := b.meta.Close(); err != nil {
		b.t.Error(err)
	}
}

// powerCut loses what is not on stable storage, and starts anew.
func (b *bench) powerCut() {
	b.t.Helper()
	after := b.disk.CrashClone()
	b.close()
	b.disk = after
	b.open()
}

func request(id string) group.JoinRequest {
	return group.JoinRequest{
		Group: "g", MemberID: id, Client: "c", ProtocolType: "consumer",
		Session: 10 * time.Second, Rebalance: 60 * time.Second,
		Protocols: []group.Protocol{{Name: "range", Metadata: []byte("m")}},
	}
}

// joinAll joins several members at once; their results are by request.
func (b *bench) joinAll(rs ...group.JoinRequest) []group.JoinResult {
	out := make([]group.JoinResult, len(rs))
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() { out[i] = b.m.Join(b.t.Context(), r) })
		synctest.Wait() // in order
	}
	wg.Wait()
	return out
}

func (b *bench) want(what string, got, want error) {
	b.t.Helper()
	if !errors.Is(got, want) {
		b.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// syncAs syncs; the leader assigns every member its own id.
func (b *bench) syncAs(j group.JoinResult) group.SyncResult {
	r := group.SyncRequest{Member: member(j), Assignments: map[string][]byte{}}
	for _, m := range j.Members {
		r.Assignments[m.ID] = []byte(m.ID)
	}
	return b.m.Sync(b.t.Context(), r)
}

func member(j group.JoinResult) group.Member {
	return group.Member{Group: "g", ID: j.MemberID, Generation: j.Generation}
}

// stable brings two members to a stable group.
func (b *bench) stable() (leader, follower group.JoinResult) {
	b.t.Helper()
	js := b.joinAll(request(""), request(""))
	leader, follower = js[0], js[1]
	if leader.Leader != leader.MemberID || follower.Leader != leader.MemberID || len(leader.Members) != 2 || len(follower.Members) != 0 {
		b.t.Fatalf("joined: %+v and %+v", leader, follower)
	}
	var wg sync.WaitGroup
	for _, j := range []group.JoinResult{follower, leader} {
		wg.Go(func() {
			if s := b.syncAs(j); s.Err != nil || string(s.Assignment) != j.MemberID {
				b.t.Errorf("sync of %s: %+v", j.MemberID, s)
			}
		})
		synctest.Wait()
	}
	wg.Wait()
	return leader, follower
}

func TestRebalance(t *testing.T) {
	run(t, func(b *bench) {
		begin := time.Now()
		leader, follower := b.stable()
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("the first generation took %v, want the initial delay", d)
		}
		b.want("heartbeat", b.m.Heartbeat(member(leader)), nil)
		var third group.JoinResult
		var wg sync.WaitGroup
		wg.Go(func() { third = b.m.Join(b.t.Context(), request("")) })
		synctest.Wait()
		b.want("heartbeat while another joins", b.m.Heartbeat(member(leader)), kerr.RebalanceInProgress)
		js := b.joinAll(request(leader.MemberID), request(follower.MemberID))
		wg.Wait()
		if third.Generation != 2 || js[0].Generation != 2 || len(js[0].Members) != 3 {
			t.Errorf("second generation: %+v, %+v", js[0], third)
		}
		b.want("heartbeat of the old generation", b.m.Heartbeat(member(leader)), kerr.IllegalGeneration)
	})
}

func TestMemberThatDies(t *testing.T) {
	run(t, func(b *bench) {
		leader, follower := b.stable()
		for range 3 { // the follower is silent for 15 s
			time.Sleep(5 * time.Second)
			if err := b.m.Heartbeat(member(leader)); err == kerr.RebalanceInProgress {
				break
			}
		}
		b.want("heartbeat after a death", b.m.Heartbeat(member(leader)), kerr.RebalanceInProgress)
		j := b.joinAll(request(leader.MemberID))[0]
		if j.Err != nil || j.Generation != 2 || len(j.Members) != 1 {
			t.Errorf("rejoined: %+v", j)
		}
		b.want("the dead member", b.m.Heartbeat(member(follower)), kerr.UnknownMemberID)
	})
}

func TestLeave(t *testing.T) {
	run(t, func(b *bench) {
		leader, follower := b.stable()
		b.want("leave", b.m.Leave("g", leader.MemberID, ""), nil)
		b.want("leave twice", b.m.Leave("g", leader.MemberID, ""), kerr.UnknownMemberID)
		j := b.joinAll(request(follower.MemberID))[0]
		if j.Leader != follower.MemberID {
			t.Errorf("the follower did not become leader: %+v", j)
		}
		b.want("leave", b.m.Leave("g", follower.MemberID, ""), nil)
		synctest.Wait() // for the disk
		if got := b.m.Describe("g").State; got != group.Dead {
			t.Errorf("a group without members is %s", got)
		}
	})
}

func TestMemberIDRequired(t *testing.T) {
	run(t, func(b *bench) {
		r := request("")
		r.NeedsID = true
		j := b.joinAll(r)[0]
		b.want("first join", j.Err, kerr.MemberIDRequired)
		r.MemberID = j.MemberID
		if j := b.joinAll(r)[0]; j.Err != nil || j.Generation != 1 {
			t.Errorf("second join: %+v", j)
		}
		b.want("made-up id", b.joinAll(request("c-made-up"))[0].Err, kerr.UnknownMemberID)
	})
}

func TestStaticMember(t *testing.T) {
	run(t, func(b *bench) {
		static := request("")
		static.Instance = "i"
		js := b.joinAll(request(""), static)
		b.syncAs(js[0])
		old := js[1]
		again := b.joinAll(static)[0] // restarted within its session
		if again.Err != nil || again.Generation != old.Generation || again.MemberID == old.MemberID {
			t.Errorf("came back: %+v, before %+v; want the same generation and a new id", again, old)
		}
		zombie := member(old)
		zombie.Instance = "i"
		b.want("zombie", b.m.Heartbeat(zombie), kerr.FencedInstanceID)
		b.want("other member", b.m.Heartbeat(member(js[0])), nil)
	})
}

// TestStaticMemberBetweenJoinAndSync: the leader is about to assign to the id
// that is not used any more; nobody would consume that share.
func TestStaticMemberBetweenJoinAndSync(t *testing.T) {
	run(t, func(b *bench) {
		static := request("")
		static.Instance = "i"
		leader := b.joinAll(request(""), static)[0]
		var wg sync.WaitGroup
		var back group.JoinResult
		wg.Go(func() { back = b.m.Join(b.t.Context(), static) })
		synctest.Wait()
		b.want("sync of the old generation", b.syncAs(leader).Err, kerr.RebalanceInProgress)
		next := b.joinAll(request(leader.MemberID))[0]
		wg.Wait()
		if back.Err != nil || back.Generation != next.Generation || len(next.Members) != 2 {
			t.Fatalf("joined again: %+v and %+v", back, next)
		}
		b.syncAs(next)
		if s := b.syncAs(back); s.Err != nil || string(s.Assignment) != back.MemberID {
			t.Errorf("assignment of the member that came back: %+v", s)
		}
	})
}

func TestRefusedJoins(t *testing.T) {
	run(t, func(b *bench) {
		b.stable()
		for name, tt := range map[string]struct {
			edit func(*group.JoinRequest)
			want error
		}{
			"no group":             {func(r *group.JoinRequest) { r.Group = "" }, kerr.InvalidGroupID},
			"no group, no session": {func(r *group.JoinRequest) { r.Group, r.Session = "", 0 }, kerr.InvalidGroupID},
			"short session":        {func(r *group.JoinRequest) { r.Session = time.Millisecond }, kerr.InvalidSessionTimeout},
			"other type":           {func(r *group.JoinRequest) { r.ProtocolType = "connect" }, kerr.InconsistentGroupProtocol},
			"other protocol":       {func(r *group.JoinRequest) { r.Protocols[0].Name = "sticky" }, kerr.InconsistentGroupProtocol},
			"no protocol":          {func(r *group.JoinRequest) { r.Protocols = nil }, kerr.InconsistentGroupProtocol},
		} {
			r := request("")
			tt.edit(&r)
			b.want(name, b.joinAll(r)[0].Err, tt.want)
		}
	})
}

func TestMayCommit(t *testing.T) {
	run(t, func(b *bench) {
		admin := group.Member{Group: "g", Generation: -1}
		b.want("admin, no group", b.mayCommit(admin), nil)
		leader, _ := b.stable()
		b.want("admin, group has members", b.mayCommit(admin), kerr.UnknownMemberID)
		b.want("transaction without a member", b.m.MayCommit(admin), nil)
		b.want("member", b.mayCommit(member(leader)), nil)
		old := member(leader)
		old.Generation--
		b.want("old generation", b.mayCommit(old), kerr.IllegalGeneration)
		b.want("old generation in a transaction", b.m.MayCommit(old), kerr.IllegalGeneration)
		b.want("delete", b.m.Delete("g"), kerr.NonEmptyGroup)
	})
}

func (b *bench) mayCommit(m group.Member) error {
	_, err := b.m.MayCommitEach(group.Commit{Member: m})
	return err
}

// TestJoinEnds: nobody waits for ever.
func TestJoinEnds(t *testing.T) {
	run(t, func(b *bench) {
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		b.want("context", b.m.Join(ctx, request("")).Err, kerr.CoordinatorNotAvailable)
		var res group.JoinResult
		var wg sync.WaitGroup
		r := request("")
		r.Group = "h"
		wg.Go(func() { res = b.m.Join(b.t.Context(), r) })
		synctest.Wait()
		b.m.Close()
		wg.Wait()
		b.want("close", res.Err, kerr.CoordinatorNotAvailable)
	})
}
