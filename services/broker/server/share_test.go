package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/store"
)

// TestShareFetchEncoding compares our encoder with kmsg's.
func TestShareFetchEncoding(t *testing.T) {
	a, b := meta.ID{1}, meta.ID{2}
	ours := &shareAnswer{throttle: 9, lockMs: 30000, parts: []*sharePart{
		{Partition: share.Partition{Topic: b, Num: 1}, ranges: []share.Range{{First: 4, Last: 9, Count: 1}, {First: 11, Last: 11, Count: 3}}},
		{Partition: share.Partition{Topic: a, Num: 7}, err: kerr.UnknownTopicID.Code},
		{Partition: share.Partition{Topic: b, Num: 0}, ackErr: kerr.InvalidRecordState.Code},
	}}
	ours.sort()
	failed := &shareAnswer{lockMs: 30000, parts: ours.parts}
	failed.fail(kerr.ShareSessionNotFound)
	for v := shareFetchAPI.min; v <= shareFetchAPI.max; v++ {
		want := kmsg.NewPtrShareFetchResponse()
		want.Version, want.AcquisitionLockTimeoutMillis = v, 30000
		text := kerr.ShareSessionNotFound.Error()
		want.ErrorCode, want.ErrorMessage = kerr.ShareSessionNotFound.Code, &text
		if diff := cmp.Diff(want.AppendTo(nil), failed.appendTo(nil, v, nil)); diff != "" {
			t.Errorf("version %d, failed (-kmsg +ours):\n%s", v, diff)
		}
		want.ErrorCode, want.ErrorMessage, want.ThrottleMillis = 0, nil, 9
		for _, p := range ours.parts {
			if n := len(want.Topics); n == 0 || want.Topics[n-1].TopicID != p.Topic {
				want.Topics = append(want.Topics, kmsg.ShareFetchResponseTopic{TopicID: p.Topic})
			}
			wp := kmsg.NewShareFetchResponseTopicPartition()
			wp.Partition, wp.ErrorCode, wp.AcknowledgeErrorCode, wp.Records = p.Num, p.err, p.ackErr, []byte{}
			wp.CurrentLeader.LeaderID, wp.CurrentLeader.LeaderEpoch = -1, -1
			for _, r := range p.ranges {
				wp.AcquiredRecords = append(wp.AcquiredRecords, kmsg.ShareFetchResponseTopicPartitionAcquiredRecord{FirstOffset: r.First, LastOffset: r.Last, DeliveryCount: r.Count})
			}
			last := &want.Topics[len(want.Topics)-1]
			last.Partitions = append(last.Partitions, wp)
		}
		if diff := cmp.Diff(want.AppendTo(nil), ours.appendTo(nil, v, nil)); diff != "" {
			t.Errorf("version %d (-kmsg +ours):\n%s", v, diff)
		}
	}
}

// shares is a server in a bubble in which time passes only when all wait.
type shares struct {
	t  *testing.T
	s  *Server
	ln *pipes
}

// inShares runs do with a server that has topic "t" of two partitions.
func inShares(t *testing.T, do func(*shares)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, _ := fuzzedServer(t)
		s.IdleTimeout = time.Hour
		h := &shares{t, s, newPipes()}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, []net.Listener{h.ln}) }()
		do(h)
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		s.Shares.Close()
	})
}

// append appends batches of so many records to partition 0 of topic "t", which
// has 6 records in 3 batches already.
func (h *shares) append(sizes ...int) {
	h.t.Helper()
	log := h.s.Catalog.Get("t").Partitions[0].Log
	for _, n := range sizes {
		b := batchOf(n, 20, 0)
		head, err := store.Check(b)
		if err != nil {
			h.t.Fatal(err)
		}
		a, err := log.Append(b, head, true)
		if err != nil {
			h.t.Fatal(err)
		}
		if err := log.Wait(h.t.Context(), a.Next); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *shares) set(name, value string) {
	h.t.Helper()
	if err := h.s.Catalog.EditGroup("s", false, func(m map[string]string) error { m[name] = value; return nil }); err != nil {
		h.t.Fatal(err)
	}
}

// sharer is a member of group "s" by one connection.
type sharer struct {
	h      *shares
	c      talker
	member string
	epoch  int32
}

func (h *shares) join(member string) *sharer {
	h.t.Helper()
	m := &sharer{h: h, c: talker{h.t, h.ln.dial()}, member: member}
	h.t.Cleanup(func() { m.c.Close() })
	hb, resp := kmsg.NewPtrShareGroupHeartbeatRequest(), kmsg.NewPtrShareGroupHeartbeatResponse()
	hb.Version, hb.GroupID, hb.MemberID, hb.SubscribedTopicNames = 1, "s", member, []string{"t"}
	if m.c.ask(hb, resp); resp.ErrorCode != 0 || resp.Assignment == nil {
		h.t.Fatalf("join: %+v", resp)
	}
	return m
}

func (m *sharer) request() *kmsg.ShareFetchRequest {
	r := kmsg.NewPtrShareFetchRequest()
	r.Version, r.GroupID, r.MemberID, r.ShareSessionEpoch = 2, kmsg.StringPtr("s"), &m.member, m.epoch
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.MaxRecords, r.ShareAcquireMode = 500, 1, 1<<20, 100, 1
	if m.epoch == 0 {
		r.Topics = m.topics()
	}
	return r
}

// topics is partition 0 of topic "t", with acknowledgements.
func (m *sharer) topics(acks ...share.Ack) []kmsg.ShareFetchRequestTopic {
	p := kmsg.NewShareFetchRequestTopicPartition()
	for _, a := range acks {
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch{FirstOffset: a.First, LastOffset: a.Last, AcknowledgeTypes: a.Types})
	}
	return []kmsg.ShareFetchRequestTopic{{TopicID: m.h.s.Catalog.Get("t").ID, Partitions: []kmsg.ShareFetchRequestTopicPartition{p}}}
}

func (m *sharer) send(r *kmsg.ShareFetchRequest) *kmsg.ShareFetchResponse {
	m.h.t.Helper()
	resp := kmsg.NewPtrShareFetchResponse()
	if !m.c.ask(r, resp) {
		m.h.t.Fatal("closed instead of an answer")
	}
	m.epoch++
	return resp
}

// fetch fetches, and returns what was acquired with the batches that came.
func (m *sharer) fetch(acks ...share.Ack) string {
	m.h.t.Helper()
	r := m.request()
	if len(acks) > 0 {
		r.Topics = m.topics(acks...)
	}
	return told(m.send(r))
}

func told(resp *kmsg.ShareFetchResponse) string {
	var b strings.Builder
	if resp.ErrorCode != 0 {
		fmt.Fprint(&b, kerr.ErrorForCode(resp.ErrorCode), " ")
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			for _, e := range []int16{p.ErrorCode, p.AcknowledgeErrorCode} {
				if e != 0 {
					fmt.Fprint(&b, kerr.ErrorForCode(e).(*kerr.Error).Message, " ")
				}
			}
			for _, a := range p.AcquiredRecords {
				fmt.Fprintf(&b, "%d-%dx%d ", a.FirstOffset, a.LastOffset, a.DeliveryCount)
			}
			for rest := p.Records; len(rest) > 0; rest = rest[12+binary.BigEndian.Uint32(rest[8:]):] {
				fmt.Fprintf(&b, "@%d ", binary.BigEndian.Uint64(rest))
			}
		}
	}
	return strings.TrimSpace(b.String())
}

func (m *sharer) want(what, got, want string) {
	m.h.t.Helper()
	if got != want {
		m.h.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func ack(first, last int64, t int8) share.Ack {
	return share.Ack{First: first, Last: last, Types: []int8{t}}
}

// TestShareFetch: records go to one member or another, and come back when they
// are released.
func TestShareFetch(t *testing.T) {
	inShares(t, func(h *shares) {
		h.set("share.auto.offset.reset", "earliest")
		a, b := h.join("a"), h.join("b")
		r := a.request()
		r.MaxRecords = 2
		a.want("strictly two", told(a.send(r)), "0-1x1 @0 @1")
		r = b.request()
		r.MaxRecords, r.ShareAcquireMode = 1, 0
		b.want("a whole batch", told(b.send(r)), "2-2x1 @1")
		b.want("the rest", b.fetch(ack(2, 2, share.Release)), "2-2x2 3-5x1 @1 @3")
	})
}

// TestShareWait: a fetch waits for as long as it says and no longer, and ends
// when there is something: new, released, or kept for too long by another.
func TestShareWait(t *testing.T) {
	inShares(t, func(h *shares) {
		a, b := h.join("a"), h.join("b")
		begin := time.Now()
		took := func(what string, want time.Duration) {
			h.t.Helper()
			if d := time.Since(begin).Round(time.Millisecond * 10); d != want {
				h.t.Errorf("%s took %v, want %v", what, d, want)
			}
			begin = time.Now()
		}
		a.want("latest", a.fetch(), "")
		took("nothing", 500*time.Millisecond)
		time.AfterFunc(200*time.Millisecond, func() { h.append(2) })
		a.want("new", a.fetch(), "6-7x1 @6")
		took("new", 200*time.Millisecond)
		r := b.request()
		r.MaxWaitMillis = 60000
		b.want("kept by another", told(b.send(r)), "6-7x2 @6")
		took("kept by another", 30*time.Second)
		done := make(chan string, 1)
		go func() { r := a.request(); r.MaxWaitMillis = 60000; done <- told(a.send(r)) }()
		synctest.Wait()
		b.c.Close() // its session ends
		a.want("the other is gone", <-done, "6-7x3 @6")
		took("the other is gone", 0)
	})
}

// TestShareMinBytes: nothing is acquired before there is as much as a client
// waits for, or its time is up.
func TestShareMinBytes(t *testing.T) {
	inShares(t, func(h *shares) {
		a, b := h.join("a"), h.join("b")
		a.fetch()
		h.append(1)
		r := a.request()
		r.MinBytes, r.MaxWaitMillis = 200, 10000
		done := make(chan string, 1)
		go func() { done <- told(a.send(r)) }()
		synctest.Wait()
		b.want("what the other waits for", b.fetch(), "6-6x1 @6")
		b.c.Close() // which gives it back
		synctest.Wait()
		h.append(1, 1)
		a.want("enough", <-done, "6-6x2 7-8x1 @6 @7 @8")
		begin := time.Now()
		h.append(1)
		r = a.request()
		r.MinBytes, r.MaxWaitMillis = 1<<20, 1000
		a.want("late", told(a.send(r)), "9-9x1 @9")
		if d := time.Since(begin).Round(10 * time.Millisecond); d != time.Second {
			t.Errorf("late took %v", d)
		}
	})
}

func TestShareSessions(t *testing.T) {
	inShares(t, func(h *shares) {
		h.set("share.auto.offset.reset", "earliest")
		a := h.join("a")
		no := kerr.ShareSessionNotFound.Error()
		a.epoch = 1
		a.want("none", a.fetch(), no)
		a.epoch = 0
		r := a.request()
		r.Topics = a.topics(ack(0, 0, share.Accept))
		a.want("it has acquired nothing", told(a.send(r)), kerr.InvalidRequest.Error())
		a.epoch = 0
		a.want("begins", a.fetch(), "0-5x1 @0 @1 @3")
		a.epoch = 5
		a.want("another epoch", a.fetch(), kerr.InvalidShareSessionEpoch.Error())
		a.epoch = 1
		a.want("not acquired", a.fetch(ack(0, 6, share.Accept)), "INVALID_REQUEST")
		a.want("a type of its own request only", a.fetch(ack(0, 0, share.Renew)), "INVALID_REQUEST")

		again := &sharer{h: h, c: talker{t, h.ln.dial()}, member: "a", epoch: 3}
		again.want("by another connection", again.fetch(), no)
		again.epoch = 0
		again.want("anew", again.fetch(), "0-5x2 @0 @1 @3")
		a.epoch = 3
		a.want("the old one", a.fetch(), no)
		again.want("twice", again.fetch(ack(0, 1, share.Accept), ack(1, 2, share.Accept)), "INVALID_REQUEST")
		r = again.request()
		r.ShareSessionEpoch, r.Topics = -1, again.topics(ack(0, 1, share.Accept))
		again.want("last words", told(again.send(r)), "")
		a.epoch = 0
		a.want("what it left", a.fetch(), "2-5x3 @1 @3")
		again.c.Close()
	})
}

// TestShareRenew: a lock that is renewed runs anew (KIP-1222).
func TestShareRenew(t *testing.T) {
	inShares(t, func(h *shares) {
		h.set("share.auto.offset.reset", "earliest")
		a, b := h.join("a"), h.join("b")
		a.want("acquired", a.fetch(), "0-5x1 @0 @1 @3")
		b.want("by another", b.fetch(), "")
		time.Sleep(20 * time.Second)
		r := a.request()
		r.IsRenewAck = true
		r.Topics = a.topics(ack(0, 2, share.Renew), ack(3, 3, share.Accept))
		a.want("with what a fetch has", told(a.send(r)), kerr.InvalidRequest.Error())
		a.epoch--
		r.ShareSessionEpoch, r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.MaxRecords = a.epoch, 0, 0, 0, 0
		a.want("renewed", told(a.send(r)), "")
		time.Sleep(15 * time.Second)
		b.want("those not renewed", b.fetch(), "4-5x2 @3")
		time.Sleep(20 * time.Second)
		b.want("when that is over", b.fetch(), "0-2x2 @0 @1")
	})
}

// TestShareKinds: an id is that of a share group or of another.
func TestShareKinds(t *testing.T) {
	inShares(t, func(h *shares) {
		a := h.join("a")
		a.fetch()
		beat, got := kmsg.NewPtrShareGroupHeartbeatRequest(), kmsg.NewPtrShareGroupHeartbeatResponse()
		beat.Version, beat.GroupID, beat.MemberID, beat.SubscribedTopicNames = 1, "g", "m", []string{"t"}
		if a.c.ask(beat, got); got.ErrorCode != kerr.GroupIDNotFound.Code {
			t.Errorf("share group g: code %d", got.ErrorCode)
		}
		commit, resp := kmsg.NewPtrOffsetCommitRequest(), kmsg.NewPtrOffsetCommitResponse()
		commit.Version, commit.Group, commit.Generation = 8, "s", -1
		commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
		if a.c.ask(commit, resp); resp.Topics[0].Partitions[0].ErrorCode != kerr.GroupIDNotFound.Code {
			t.Errorf("commit to s: %+v", resp)
		}
		consumer, cr := kmsg.NewPtrConsumerGroupHeartbeatRequest(), kmsg.NewPtrConsumerGroupHeartbeatResponse()
		consumer.Version, consumer.Group, consumer.MemberID, consumer.RebalanceTimeoutMillis = 1, "s", "m", 1000
		consumer.SubscribedTopicNames, consumer.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if a.c.ask(consumer, cr); cr.ErrorCode != kerr.GroupIDNotFound.Code {
			t.Errorf("consumer group s: %+v", cr)
		}
		join, jr := kmsg.NewPtrJoinGroupRequest(), kmsg.NewPtrJoinGroupResponse()
		join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis = 3, "s", "consumer", 10000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		if a.c.ask(join, jr); jr.ErrorCode != kerr.InconsistentGroupProtocol.Code {
			t.Errorf("classic group s: %+v", jr)
		}
		list, lr := kmsg.NewPtrListGroupsRequest(), kmsg.NewPtrListGroupsResponse()
		list.Version, list.TypesFilter = 5, []string{"Share"}
		if a.c.ask(list, lr); len(lr.Groups) != 1 || lr.Groups[0].Group != "s" || lr.Groups[0].GroupState != "Stable" {
			t.Errorf("listed: %+v", lr)
		}
		del, dr := kmsg.NewPtrDeleteGroupsRequest(), kmsg.NewPtrDeleteGroupsResponse()
		del.Version, del.Groups = 2, []string{"s"}
		if a.c.ask(del, dr); dr.Groups[0].ErrorCode != kerr.NonEmptyGroup.Code {
			t.Errorf("delete: %+v", dr)
		}
		beat.GroupID, beat.MemberID, beat.MemberEpoch = "s", "a", -1
		if a.c.ask(beat, got); got.ErrorCode != 0 {
			t.Errorf("leave: %+v", got)
		}
		if a.c.ask(del, dr); dr.Groups[0].ErrorCode != 0 || h.s.Meta.HasShares("s") {
			t.Errorf("delete: %+v", dr)
		}
	})
}

// TestShareLevel: at level 0 of the feature there are no share groups.
func TestShareLevel(t *testing.T) {
	inShares(t, func(h *shares) {
		a := h.join("a")
		a.fetch()
		if err := h.s.Meta.SetFeatures(map[string]int16{groupVersion: 1, shareVersion: 0}); err != nil {
			t.Fatal(err)
		}
		if got := a.fetch(); !strings.HasPrefix(got, kerr.UnsupportedVersion.Error()) {
			t.Errorf("got %q", got)
		}
	})
}

// TestShareNames: the journal keeps text, so ids are text.
func TestShareNames(t *testing.T) {
	inShares(t, func(h *shares) {
		c := talker{t, h.ln.dial()}
		defer c.Close()
		req, resp := kmsg.NewPtrAlterShareGroupOffsetsRequest(), kmsg.NewPtrAlterShareGroupOffsetsResponse()
		for _, id := range []string{"", "\xff", strings.Repeat("s", 2000)} {
			req.GroupID, req.Topics = id, []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}}}}
			if c.ask(req, resp); resp.ErrorCode != kerr.InvalidGroupID.Code {
				t.Errorf("group %.10q: %+v", id, resp)
			}
		}
	})
}
