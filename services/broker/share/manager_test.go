package share

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/vfs"
)

// TestKept: what was acknowledged is not delivered again after a power cut, and
// all else is, with the count of its deliveries.
func TestKept(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.set("share.auto.offset.reset", "earliest")
		h.must(h.append(6, 0))
		a := h.session("a")
		h.want("acquired", h.got(a, 10), "{0 5 1}")
		h.must(h.ack(a, all(0, 0, Accept), all(2, 2, Reject), all(4, 4, Release)))
		h.powerCut()
		h.want("after the cut", h.got(h.session("a"), 10), "{1 1 2} {3 5 2}")
	})
}

// TestBeginningIsKept: a group that began at the end of the log begins there
// after a power cut too, whatever has come since.
func TestBeginningIsKept(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.must(h.append(3, 0))
		h.want("latest", h.got(h.session("a"), 10), "")
		h.must(h.append(2, 0))
		h.powerCut()
		h.want("after the cut", h.got(h.session("a"), 10), "{3 4 1}")
	})
}

func TestBeginning(t *testing.T) {
	for value, want := range map[string]string{"earliest": "{0 3 1}", "latest": "", "by_duration:PT1H": "", "by_duration:P36500D": "{0 3 1}"} {
		inHouse(t, 1, func(h *house) {
			h.set("share.auto.offset.reset", value)
			h.must(h.append(4, 0)) // of 1970; the bubble's clock begins in 2000
			h.want(value, h.got(h.session("a"), 10), want)
		})
	}
}

// TestReadCommitted: nothing of an open transaction or of an aborted one is
// delivered, nor any marker.
func TestReadCommitted(t *testing.T) {
	for level, want := range map[string][3]string{
		"read_uncommitted": {"{0 5 1}", "{7 7 1}", "{9 9 1}"},
		"read_committed":   {"{0 1 1}", "{7 7 1}", "{4 5 1} {9 9 1}"},
	} {
		inHouse(t, 1, func(h *house) {
			h.set("share.auto.offset.reset", "earliest")
			h.set("share.isolation.level", level)
			s := h.session("a")
			h.must(h.append(2, 0))
			h.must(h.append(2, 7))                        // 2, 3: aborted
			h.must(h.append(2, 8))                        // 4, 5: committed later
			h.want(level+", open", h.got(s, 10), want[0]) // the marker is at 6
			h.must(h.appended(h.log(0).AppendMarker(7, 0, false, 1)))
			h.must(h.append(1, 0)) // 7
			if level == "read_uncommitted" {
				h.want(level+", aborted", h.got(s, 10), want[1])
			} else {
				h.want(level+", aborted", h.got(s, 10), "") // the other one is open
			}
			h.must(h.appended(h.log(0).AppendMarker(8, 0, true, 1))) // 8
			h.must(h.append(1, 0))                                   // 9
			if level == "read_committed" {
				want[2] = "{4 5 1} {7 7 1} {9 9 1}"
			}
			h.want(level+", committed", h.got(s, 10), want[2])
		})
	}
}

// TestLogStartMoves: what was deleted holds nothing up.
func TestLogStartMoves(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.set("share.auto.offset.reset", "earliest")
		h.must(h.append(6, 0))
		a := h.session("a")
		h.want("acquired", h.got(a, 4), "{0 3 1}")
		h.must(h.ack(a, all(2, 3, Release)))
		h.must(h.log(0).Trim(3))
		h.want("what is left", h.got(a, 10), "{3 3 2} {4 5 1}")
		if err := h.ack(a, all(0, 1, Accept), all(3, 5, Accept)); err != nil {
			t.Errorf("what was deleted meanwhile: %v", err)
		}
		if start, lag, ok := h.m.Offset("g", h.key(0), h.log(0)); start != 6 || lag != 0 || !ok {
			t.Errorf("start %d, lag %d, %v", start, lag, ok)
		}
	})
}

// TestLogLost: a topic that is not synced loses records in a power cut that
// were acknowledged already. Those that come in their place are delivered.
func TestLogLost(t *testing.T) {
	for _, more := range []int{0, 3} {
		inHouse(t, 1, func(h *house) {
			h.set("share.auto.offset.reset", "earliest")
			h.must(h.append(2, 0))
			before := h.disk.CrashClone()
			h.must(h.append(3, 0))
			a := h.session("a")
			h.want("acquired", h.got(a, 10), "{0 4 1}")
			h.must(h.ack(a, all(0, 4, Accept)))
			kept, _ := h.meta.Share("g", h.key(0).Topic, 0)
			// The disk of before, with the state of after.
			h.close()
			h.disk = before
			h.open()
			kept.Topic = h.key(0).Topic
			h.powerCut() // the epoch in which that was true is over
			h.must(h.append(1+more, 0))
			kept.Epoch = h.log(0).Epoch() - 1
			h.must(h.meta.PutShares(append(h.meta.Shares("none"), kept)))
			h.want("those in their place", h.got(h.session("a"), 10), fmt.Sprintf("{2 %d 1}", 2+more))
		})
	}
}

// TestAcknowledgedTogether: acknowledgements of many members at once are all
// on disk when they are answered, in few writes.
func TestAcknowledgedTogether(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.set("share.auto.offset.reset", "earliest")
		h.must(h.append(40, 0))
		var syncs atomic.Int32
		var sessions []*Session
		for i := range 40 {
			s := h.session(fmt.Sprint("m", i))
			h.want("acquired", h.got(s, 1), fmt.Sprintf("{%d %d 1}", i, i))
			sessions = append(sessions, s)
		}
		h.disk.SetHook(func(op vfs.Op, name string) error {
			if op == vfs.OpSync {
				syncs.Add(1)
				time.Sleep(time.Millisecond) // meanwhile the others come
			}
			return nil
		})
		done := make(chan error)
		for i, s := range sessions {
			go func() { done <- h.ack(s, all(int64(i), int64(i), Accept)) }()
		}
		for range sessions {
			h.must(<-done)
		}
		h.disk.SetHook(nil)
		if n := syncs.Load(); n > 3 {
			t.Errorf("%d syncs for 40 acknowledgements", n)
		}
		h.powerCut()
		h.want("after the cut", h.got(h.session("a"), 100), "")
	})
}

// TestSessionEndsWhileWriting: whoever comes next does not begin with what the
// disk knew before.
func TestSessionEndsWhileWriting(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.set("share.auto.offset.reset", "earliest")
		h.must(h.append(4, 0))
		a := h.session("a")
		h.want("acquired", h.got(a, 2), "{0 1 1}")
		h.disk.SetHook(func(op vfs.Op, name string) error {
			if op == vfs.OpSync {
				time.Sleep(time.Second)
			}
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- h.ack(a, all(0, 1, Accept)) }()
		synctest.Wait() // it is being written
		a.Close()
		h.want("meanwhile", h.got(h.session("b"), 10), "{2 3 1}")
		h.must(<-done)
	})
}

// TestDiskFailure: what is not durable is answered with an error; it counts
// all the same, and is written with what comes next.
func TestDiskFailure(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.set("share.auto.offset.reset", "earliest")
		h.must(h.append(4, 0))
		a := h.session("a")
		h.got(a, 10)
		h.disk.SetHook(vfs.FailNth(vfs.OpWrite, "meta/*", 1, syscall.ENOSPC, false))
		if err := h.ack(a, all(0, 0, Accept)); err == nil {
			t.Error("acknowledged on a full disk")
		}
		h.must(<-h.m.Settled())
		h.powerCut()
		h.want("after the cut", h.got(h.session("a"), 10), "{1 3 2}")
		h.disk.SetHook(vfs.FailNth(vfs.OpSync, "meta/*", 1, syscall.EIO, false))
		if err := h.ack(h.session("a"), all(0, 0, Accept)); err == nil {
			t.Error("acknowledged on a disk that fails")
		}
	})
}

// TestTidy: what nobody uses takes no memory, and is found again.
func TestTidy(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.set("share.auto.offset.reset", "earliest")
		h.must(h.append(4, 0))
		a, b := h.session("a"), h.session("b")
		h.m.Heartbeat(HeartbeatRequest{Group: "g", MemberID: "a", Topics: []string{"t"}})
		h.got(a, 2)
		h.got(b, 2)
		h.must(h.ack(b, all(3, 3, Accept)))
		a.Close()
		b.Close()
		b.Close()
		time.Sleep(time.Hour) // the member's session ends
		synctest.Wait()
		if len(h.m.groups)+len(h.m.sessions)+len(h.m.ids)+h.m.parts+h.m.bytes != 0 || h.m.inFlight.Load() != 0 {
			t.Errorf("%d groups, %d sessions, %d ids, %d partitions, %d records in flight", len(h.m.groups), len(h.m.sessions), len(h.m.ids), h.m.parts, h.m.inFlight.Load())
		}
		h.want("found again", h.got(h.session("a"), 10), "{0 2 2}")
	})
}

// TestDeleted: a topic that is deleted takes what is known of it along, and so
// does a group.
func TestDeleted(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.must(h.append(4, 0))
		s := h.session("a")
		h.got(s, 1)
		if err := h.m.Delete("g"); err != nil { // no members, whatever sessions there are
			t.Error(err)
		}
		h.want("begins anew", h.got(s, 1), "")
		h.must(h.cat.Delete("t"))
		h.powerCut()
		if groups := h.meta.ShareGroups(); len(groups) > 0 {
			t.Errorf("kept: %v", groups)
		}
		if err := h.m.Delete("g"); !errors.Is(err, kerr.GroupIDNotFound) {
			t.Errorf("delete: %v", err)
		}
	})
}

func TestPut(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		h.must(h.append(4, 0))
		put := func(offset int64) error {
			return h.m.Put("g", []Start{{h.key(0), h.log(0), offset}}, false)
		}
		h.must(put(2))
		h.want("there", h.got(h.session("a"), 1), "{2 2 1}")
		h.must(put(100))
		if start, _, _ := h.m.Offset("g", h.key(0), h.log(0)); start != 4 {
			t.Errorf("behind the end: %d", start)
		}
		h.must(put(1)) // while it is acquired
		h.want("elsewhere", h.got(h.session("b"), 10), "{1 3 1}")
		h.m.Heartbeat(HeartbeatRequest{Group: "g", MemberID: "a", Topics: []string{"t"}})
		if err := put(0); !errors.Is(err, kerr.NonEmptyGroup) {
			t.Errorf("with members: %v", err)
		}
		h.other["x"] = true
		if err := h.m.Put("x", nil, false); !errors.Is(err, kerr.GroupIDNotFound) {
			t.Errorf("another kind: %v", err)
		}
	})
}

func TestSimple(t *testing.T) {
	for _, tt := range []struct {
		partitions, members int
		want                string
	}{
		{0, 2, "[[] []]"}, {4, 1, "[[0 1 2 3]]"}, {4, 2, "[[0 2] [1 3]]"}, {3, 2, "[[0 2] [1]]"},
		{2, 3, "[[0] [1] [0]]"}, {1, 3, "[[0] [0] [0]]"}, {2, 4, "[[0] [1] [0] [1]]"},
	} {
		if got := fmt.Sprint(simple(tt.partitions, tt.members)); got != tt.want {
			t.Errorf("%d partitions, %d members: %s, want %s", tt.partitions, tt.members, got, tt.want)
		}
	}
}

// TestMembers: they join, learn what they share as others come and go, are
// fenced and forgotten.
func TestMembers(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		beat := func(id string, epoch int32, topics ...string) HeartbeatResult {
			return h.m.Heartbeat(HeartbeatRequest{Group: "g", MemberID: id, Epoch: epoch, Topics: topics})
		}
		is := func(what string, res HeartbeatResult, epoch int32, parts ...int32) {
			h.t.Helper()
			var got []int32
			for _, p := range res.Assigned {
				got = append(got, p.Partitions...)
			}
			if diff := cmp.Diff(parts, got); diff != "" || res.Err != nil || res.Epoch != epoch {
				h.t.Errorf("%s: %+v (-want +got):\n%s", what, res, diff)
			}
		}
		fails := func(what string, res HeartbeatResult, want error) {
			h.t.Helper()
			if !errors.Is(res.Err, want) {
				h.t.Errorf("%s: %v, want %v", what, res.Err, want)
			}
		}
		fails("no group", beat("a", 1), kerr.UnknownMemberID)
		fails("nothing subscribed", beat("a", 0), kerr.InvalidRequest)
		is("a joins", beat("a", 0, "t"), 1, 0, 1)
		is("a lives", beat("a", 1), 1)
		is("b joins", beat("b", 0, "t"), 2, 1)
		is("a learns", beat("a", 1), 2, 0)
		is("a missed the answer", beat("a", 1), 2)
		is("a asks again", beat("a", 2, "t"), 2, 0)
		fails("an old epoch", beat("a", 0+7), kerr.FencedMemberEpoch)
		h.must(h.cat.Grow("t", 3))
		is("the topic grows", beat("b", 2), 3, 1)
		is("a has more", beat("a", 2), 3, 0, 2)
		is("b leaves", beat("b", -1), -1)
		is("a has all", beat("a", 3), 4, 0, 1, 2)
		h.m.Heartbeat(HeartbeatRequest{Group: "g", MemberID: "b", Topics: []string{"t"}})
		epoch := int32(4)
		for range 10 {
			time.Sleep(10 * time.Second)
			epoch = beat("a", epoch).Epoch
		}
		info, err := h.m.Describe("g")
		if err != nil || info.State != "Stable" || len(info.Members) != 1 || info.Members[0].ID != "a" {
			t.Errorf("when b was silent: %+v, %v", info, err)
		}
		h.other["x"] = true
		fails("another kind", h.m.Heartbeat(HeartbeatRequest{Group: "x", MemberID: "a", Topics: []string{"t"}}), kerr.GroupIDNotFound)
		h.powerCut()
		fails("after a restart", beat("a", 6), kerr.UnknownMemberID)
		is("and again", beat("a", 0, "t"), 1, 0, 1, 2)
	})
}

// TestTalkative: what members say is bounded, and counted out when they go.
func TestTalkative(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		beat := func(i, epoch int) error {
			r := HeartbeatRequest{Group: fmt.Sprint("g", i%10), MemberID: fmt.Sprint(i), Epoch: int32(epoch)}
			if epoch == 0 {
				r.Topics = []string{strings.Repeat("x", 200<<10)}
			}
			return h.m.Heartbeat(r).Err
		}
		n := 0
		for n < 1000 && beat(n, 0) == nil {
			n++
		}
		if n < 20 || n > 50 {
			t.Errorf("%d members of 200 KiB", n)
		}
		if err := beat(0, 1); errors.Is(err, kerr.CoordinatorNotAvailable) {
			t.Errorf("one that is there: %v", err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(h.m.groups) != 0 || h.m.bytes != 0 {
			t.Errorf("left: %d groups, %d bytes", len(h.m.groups), h.m.bytes)
		}
	})
}

// TestMany: sessions and partitions are counted, however they end.
func TestMany(t *testing.T) {
	inHouse(t, 1, func(h *house) {
		var all []*Session
		for i := range maxSessions {
			all = append(all, h.session(fmt.Sprint("m", i)))
		}
		if _, err := h.m.Open(h, "g", "one more"); !errors.Is(err, kerr.ShareSessionLimitReached) {
			t.Errorf("one more: %v", err)
		}
		all[0] = h.session("m0") // in the place of its own
		for i := int32(0); h.m.parts < maxParts; i++ {
			h.must(all[0].Add(Partition{Num: i + 5}))
		}
		if err := all[0].Add(Partition{Num: 4}); !errors.Is(err, kerr.ShareSessionLimitReached) {
			t.Errorf("one partition more: %v", err)
		}
		all[0].Forget(Partition{Num: 5})
		h.must(all[0].Add(Partition{Num: 4}))
		for _, s := range all {
			s.Close()
		}
		if err := all[0].Add(Partition{Num: 3}); !errors.Is(err, kerr.ShareSessionNotFound) {
			t.Errorf("when it is over: %v", err)
		}
		if len(h.m.sessions) != 0 || h.m.parts != 0 || len(h.m.groups) != 0 {
			t.Errorf("left: %d sessions, %d partitions, %d groups", len(h.m.sessions), h.m.parts, len(h.m.groups))
		}
	})
}
