package group_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
)

func (b *bench) commit(groupID string, ms int64) {
	b.t.Helper()
	if err := b.meta.Commit(groupID, []meta.Offset{{Topic: "t", Offset: 1, CommitMs: ms}}); err != nil {
		b.t.Fatal(err)
	}
}

// TestPowerCutBetweenHeartbeats: members go on with heartbeats and commits
// and nobody has to join again.
func TestPowerCutBetweenHeartbeats(t *testing.T) {
	run(t, func(b *bench) {
		static := request("")
		static.Instance, static.Host = "i", "/10.0.0.1"
		js := b.joinAll(request(""), static)
		var wg sync.WaitGroup
		for _, j := range js {
			wg.Go(func() { b.syncAs(j) })
		}
		wg.Wait()
		before := b.m.Describe("g")

		b.powerCut()
		if diff := cmp.Diff(before, b.m.Describe("g")); diff != "" || before.State != group.Stable {
			t.Errorf("group (-before +after):\n%s", diff)
		}
		for _, j := range js {
			b.want("heartbeat", b.m.Heartbeat(member(j)), nil)
			b.want("commit", b.mayCommit(member(j)), nil)
			if s := b.syncAs(j); s.Err != nil || string(s.Assignment) != j.MemberID {
				t.Errorf("sync again: %+v", s)
			}
		}
		follower := request(js[1].MemberID)
		follower.Instance, follower.Host = "i", "/10.0.0.1"
		if j := b.joinAll(follower)[0]; j.Err != nil || j.Generation != js[1].Generation {
			t.Errorf("a follower that asks again: %+v", j)
		}
		again := b.joinAll(static)[0]
		if again.Err != nil || again.Generation != js[1].Generation || again.MemberID == js[1].MemberID {
			t.Errorf("a static member that comes back: %+v", again)
		}
		b.powerCut()
		b.want("its new id", b.m.Heartbeat(group.Member{Group: "g", ID: again.MemberID, Instance: "i", Generation: again.Generation}), nil)
		b.want("its old id", b.m.Heartbeat(group.Member{Group: "g", ID: js[1].MemberID, Instance: "i", Generation: again.Generation}), kerr.FencedInstanceID)
	})
}

// TestPowerCutDuringRebalance: what nobody was told of may be forgotten; the
// members find out and join again.
func TestPowerCutDuringRebalance(t *testing.T) {
	run(t, func(b *bench) {
		leader, follower := b.stable()
		b.m.Leave("g", follower.MemberID, "")
		next := b.joinAll(request(leader.MemberID))[0]
		if next.Generation != leader.Generation+1 {
			t.Fatalf("joined: %+v", next)
		}
		b.powerCut() // before anybody has synced
		b.want("sync of a generation that was not written", b.syncAs(next).Err, kerr.IllegalGeneration)
		joined := make(chan group.JoinResult, 1)
		go func() { joined <- b.m.Join(b.t.Context(), request(next.MemberID)) }()
		time.Sleep(time.Minute) // the one that had left is waited for, as after a crash of its own
		if j := <-joined; j.Err != nil || len(j.Members) != 1 {
			t.Errorf("joined again: %+v", j)
		}
	})
}

// TestRestartGivesASession: a member that does not come back is noticed, one
// that does has a whole session to do so.
func TestRestartGivesASession(t *testing.T) {
	run(t, func(b *bench) {
		leader, follower := b.stable()
		time.Sleep(9 * time.Second)
		b.powerCut()
		time.Sleep(9 * time.Second)
		b.want("heartbeat", b.m.Heartbeat(member(leader)), nil)
		time.Sleep(2 * time.Second)
		b.want("heartbeat after the other's session", b.m.Heartbeat(member(leader)), kerr.RebalanceInProgress)
		b.want("the other", b.m.Heartbeat(member(follower)), kerr.UnknownMemberID)
	})
}

// TestEmptyGroupAfterRestart: with commits it keeps its generation, without
// nothing of it is left.
func TestEmptyGroupAfterRestart(t *testing.T) {
	for _, commits := range []bool{true, false} {
		run(t, func(b *bench) {
			leader, follower := b.stable()
			want := group.Dead
			if commits {
				b.commit("g", 1)
				want = group.Empty
			}
			b.m.Leave("g", leader.MemberID, "")
			b.m.Leave("g", follower.MemberID, "")
			synctest.Wait()
			b.powerCut()
			if got := b.m.Describe("g").State; got != want {
				t.Errorf("commits %v: %s, want %s", commits, got, want)
			}
			if got := len(b.meta.GroupStates()) == 1; got != commits {
				t.Errorf("commits %v: kept %v", commits, got)
			}
			j := b.joinAll(request(""))[0]
			if later := j.Generation > leader.Generation; j.Err != nil || later != commits {
				t.Errorf("commits %v: joined %+v after generation %d", commits, j, leader.Generation)
			}
		})
	}
}

// TestStaticLeaderComesBack: no rebalance, and it is told not to assign, or
// that another leads.
func TestStaticLeaderComesBack(t *testing.T) {
	for _, skips := range []bool{true, false} {
		run(t, func(b *bench) {
			static := request("")
			static.Instance, static.SkipsAssignment = "i", skips
			js := b.joinAll(static, request(""))
			var wg sync.WaitGroup
			for _, j := range js {
				wg.Go(func() { b.syncAs(j) })
			}
			wg.Wait()
			back := b.joinAll(static)[0]
			if back.Err != nil || back.Generation != js[0].Generation || back.SkipAssignment != skips || (back.Leader == back.MemberID) != skips || (len(back.Members) == 2) != skips {
				t.Errorf("skips %v: came back: %+v", skips, back)
			}
			b.want("other member", b.m.Heartbeat(member(js[1])), nil)
			if s := b.syncAs(group.JoinResult{MemberID: back.MemberID, Generation: back.Generation}); s.Err != nil || string(s.Assignment) != js[0].MemberID {
				t.Errorf("its assignment: %+v, want that of its former self", s)
			}
		})
	}
}

// TestLeaderThatNeverAssigns is removed, although its heartbeats go on.
func TestLeaderThatNeverAssigns(t *testing.T) {
	run(t, func(b *bench) {
		js := b.joinAll(request(""), request(""))
		waits := make(chan group.SyncResult, 1)
		go func() { waits <- b.syncAs(js[1]) }()
		for range 12 {
			time.Sleep(5 * time.Second)
			b.m.Heartbeat(member(js[0]))
		}
		if s := <-waits; s.Err != kerr.RebalanceInProgress {
			t.Errorf("the follower: %+v", s)
		}
		b.want("the leader", b.m.Heartbeat(member(js[0])), kerr.UnknownMemberID)
	})
}

// TestOnlyAwayStaticMembers: a rebalance that none of them joins does not
// begin a generation without a leader.
func TestOnlyAwayStaticMembers(t *testing.T) {
	run(t, func(b *bench) {
		a, c := request(""), request("")
		a.Instance, c.Instance = "a", "c"
		a.Session, c.Session = 20*time.Minute, 20*time.Minute
		js := b.joinAll(a, c, request(""))
		var wg sync.WaitGroup
		for _, j := range js {
			wg.Go(func() { b.syncAs(j) })
		}
		wg.Wait()
		b.m.Leave("g", js[2].MemberID, "")
		time.Sleep(5 * time.Minute)
		if got := b.m.Describe("g"); got.State != group.Preparing || len(got.Members) != 2 {
			t.Errorf("group: %+v, want it to wait for both", got)
		}
		back := b.joinAll(a, c)
		if back[0].Err != nil || back[0].Generation != js[0].Generation+1 {
			t.Errorf("came back: %+v", back)
		}
	})
}

// TestGiantMetadata is refused, and what was said before is not held.
func TestGiantMetadata(t *testing.T) {
	run(t, func(b *bench) {
		big := request("")
		big.Protocols[0].Metadata = make([]byte, 2<<20)
		b.want("2 MiB", b.joinAll(big)[0].Err, kerr.GroupMaxSizeReached)
		many := request("")
		for i := range 100 {
			many.Protocols = append(many.Protocols, group.Protocol{Name: fmt.Sprint(i)})
		}
		b.want("100 protocols", b.joinAll(many)[0].Err, kerr.InconsistentGroupProtocol)
		long := request("")
		long.Group = strings.Repeat("g", 5000)
		b.want("a long id", b.joinAll(long)[0].Err, kerr.InvalidGroupID)
		refused := 0
		for i := range 40 {
			r := request("")
			r.Group, r.Protocols[0].Metadata, r.Session = fmt.Sprint("g", i), make([]byte, 900<<10), 30*time.Minute
			if b.joinAll(r)[0].Err == kerr.CoordinatorNotAvailable {
				refused++
			}
		}
		if refused == 0 || refused > 35 {
			t.Errorf("%d of 40 groups of 900 KiB were refused", refused)
		}
		time.Sleep(time.Hour) // all expire
		ok := request("")
		ok.Protocols[0].Metadata = make([]byte, 900<<10)
		b.want("when they are gone", b.joinAll(ok)[0].Err, nil)
	})
}

// TestGiantAssignment: the leader's assignments are refused, and the group
// does not hang.
func TestGiantAssignment(t *testing.T) {
	run(t, func(b *bench) {
		js := b.joinAll(request(""), request(""))
		follower := b.m.BeginSync(group.SyncRequest{Member: member(js[1])})
		r := group.SyncRequest{Member: member(js[0]), Assignments: map[string][]byte{js[1].MemberID: make([]byte, 2<<20)}}
		b.want("leader", b.m.Sync(b.t.Context(), r).Err, kerr.UnknownServerError)
		b.want("follower", (<-follower).Err, kerr.UnknownServerError)
	})
}

// TestDiskFailure: nobody is told what is not durable.
func TestDiskFailure(t *testing.T) {
	run(t, func(b *bench) {
		js := b.joinAll(request(""), request(""))
		b.meta.Close()
		if s := b.syncAs(js[0]); s.Err == nil {
			t.Errorf("sync: %+v", s)
		}
		if got := b.m.Describe("g").State; got != group.Completing {
			t.Errorf("group is %s", got)
		}
		b.open() // for close
	})
}

func TestCommitsExpire(t *testing.T) {
	run(t, func(b *bench) {
		leader, follower := b.stable()
		b.m.Leave("g", follower.MemberID, "")
		leader = b.joinAll(request(leader.MemberID))[0]
		b.syncAs(leader)
		for _, id := range []string{"g", "simple", "busy", "wayside.link.a"} {
			b.commit(id, 1)
		}
		for i := range 12 { // two and a half days
			for range 5 * 3600 / 5 {
				time.Sleep(5 * time.Second)
				b.m.Heartbeat(member(leader))
			}
			b.commit("busy", int64(i))
			switch i {
			case 1:
				b.powerCut() // the count begins anew
			case 4: // 15 h after the restart, 25 h after the commit
				if !b.meta.HasGroup("simple") {
					t.Error("a restart counted as time")
				}
			}
		}
		for id, want := range map[string]bool{"g": true, "simple": false, "busy": true, "wayside.link.a": true} {
			if got := b.meta.HasGroup(id); got != want {
				t.Errorf("group %s: kept %v, want %v", id, got, want)
			}
		}
	})
}

func TestDeleteGroup(t *testing.T) {
	run(t, func(b *bench) {
		b.want("unknown", b.m.Delete("g"), kerr.GroupIDNotFound)
		leader, follower := b.stable()
		b.commit("g", 1)
		b.want("members", b.m.Delete("g"), kerr.NonEmptyGroup)
		b.m.Leave("g", leader.MemberID, "")
		b.m.Leave("g", follower.MemberID, "")
		b.want("delete", b.m.Delete("g"), nil)
		b.powerCut()
		if got := b.m.Describe("g").State; got != group.Dead || len(b.meta.GroupStates()) > 0 || b.meta.HasGroup("g") {
			t.Errorf("after deletion: %s, %+v", got, b.meta.GroupStates())
		}
	})
}
