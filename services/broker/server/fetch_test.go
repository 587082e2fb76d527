package server

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// TestFetchEncoding compares our encoder with kmsg's.
func TestFetchEncoding(t *testing.T) {
	a, b := &wantedTopic{name: "a", id: meta.ID{1}}, &wantedTopic{name: "b", id: meta.ID{2}}
	f := &fetchAnswer{err: 5, session: 77, throttle: 9, broker: "here", port: 9092, parts: []fetchPart{
		{topic: a, num: 3, err: 1, hw: -1, stable: -1, start: -1},
		{topic: a, num: 4, hw: 10, stable: 8, start: 2, aborted: []store.AbortedTxn{{ProducerID: 6, FirstOffset: 5}, {ProducerID: 7, FirstOffset: 6}}},
		{topic: b, num: 0, err: kerr.FencedLeaderEpoch.Code, leader: 12},
		{topic: a, num: 5},
	}}
	for v := fetchAPI.min; v <= fetchAPI.max; v++ {
		got := f.appendTo(nil, v, nil)
		want := kmsg.NewPtrFetchResponse()
		want.Version, want.ErrorCode, want.SessionID, want.ThrottleMillis = v, 5, 77, 9
		if v >= 16 {
			want.Brokers = []kmsg.FetchResponseBroker{{NodeID: NodeID, Host: "here", Port: 9092}}
		}
		var last *wantedTopic
		for _, fp := range f.parts {
			if fp.topic != last {
				last = fp.topic
				want.Topics = append(want.Topics, kmsg.FetchResponseTopic{Topic: last.name, TopicID: last.id})
			}
			wt := &want.Topics[len(want.Topics)-1]
			wt.Partitions = append(wt.Partitions, kmsgPart(fp))
		}
		if diff := cmp.Diff(want.AppendTo(nil), got); diff != "" {
			t.Errorf("version %d (-kmsg +ours):\n%s", v, diff)
		}
	}
}

func kmsgPart(fp fetchPart) kmsg.FetchResponseTopicPartition {
	wp := kmsg.NewFetchResponseTopicPartition()
	wp.Partition, wp.ErrorCode = fp.num, fp.err
	wp.HighWatermark, wp.LastStableOffset, wp.LogStartOffset = fp.hw, fp.stable, fp.start
	wp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
	for _, t := range fp.aborted {
		wp.AbortedTransactions = append(wp.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: t.ProducerID, FirstOffset: t.FirstOffset})
	}
	if fp.leader != 0 {
		wp.CurrentLeader.LeaderID, wp.CurrentLeader.LeaderEpoch = NodeID, fp.leader
	}
	wp.RecordBatches = []byte{}
	return wp
}

// batchOf is a record batch of n records without key, each of some bytes.
func batchOf(n, size int, attributes int16) []byte {
	rec := kmsg.Record{TimestampDelta64: 0, Value: make([]byte, size)}
	var records []byte
	for i := range n {
		rec.OffsetDelta = int32(i)
		rec.Length = 0
		body := rec.AppendTo(nil)[1:] // without the length, which is 0 and one byte
		records = binary.AppendVarint(records, int64(len(body)))
		records = append(records, body...)
	}
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, Attributes: attributes, LastOffsetDelta: int32(n - 1),
		FirstTimestamp: 1, MaxTimestamp: 1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(n), Records: records,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// fetcher is a client that fetches over one connection.
type fetcher struct {
	t    *testing.T
	s    *Server
	c    net.Conn
	corr int32
}

func newFetcher(t *testing.T, s *Server) *fetcher {
	return &fetcher{t: t, s: s, c: dial(t, listen(t, s))}
}

func (f *fetcher) topic(name string, partitions int32) *catalog.Topic {
	f.t.Helper()
	if _, err := f.s.Catalog.Create(name, partitions, nil); err != nil {
		f.t.Fatal(err)
	}
	return f.s.Catalog.Get(name)
}

func (f *fetcher) send(req kmsg.Request, resp kmsg.Response) {
	f.t.Helper()
	f.corr++
	f.c.Write(frameOf(req, f.corr))
	corr, body := readFrame(f.t, f.c)
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil || corr != f.corr {
		f.t.Fatalf("%T: correlation id %d, want %d: %v", resp, corr, f.corr, err)
	}
}

// produce appends a batch of n records and returns when it is readable.
func (f *fetcher) produce(topic string, part int32, n int) {
	f.t.Helper()
	f.append(topic, part, batchOf(n, 100, 0))
}

func (f *fetcher) append(topic string, part int32, batch []byte) {
	f.t.Helper()
	log := f.s.Catalog.Get(topic).Partitions[part].Log
	h, err := store.Check(batch)
	if err != nil {
		f.t.Fatal(err)
	}
	a, err := log.Append(batch, h, true)
	if err == nil {
		err = log.Wait(f.t.Context(), a.Next)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// from is a partition to fetch: number, offset.
type from struct {
	part   int32
	offset int64
}

func (f *fetcher) request(id, epoch int32, topic string, parts ...from) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 12, 0, 1, 1<<20
	req.SessionID, req.SessionEpoch = id, epoch
	if len(parts) > 0 {
		rt := kmsg.FetchRequestTopic{Topic: topic}
		for _, p := range parts {
			rp := kmsg.NewFetchRequestTopicPartition()
			rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p.part, p.offset, 1<<20
			rt.Partitions = append(rt.Partitions, rp)
		}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func (f *fetcher) fetch(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	f.t.Helper()
	resp := kmsg.NewPtrFetchResponse()
	f.send(req, resp)
	return resp
}

// seen is what an answer says of a partition: number, error, has records.
type seen struct {
	Part    int32
	Err     int16
	Records bool
	HW      int64
}

func see(resp *kmsg.FetchResponse) (out []seen) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out = append(out, seen{p.Partition, p.ErrorCode, len(p.RecordBatches) > 0, p.HighWatermark})
		}
	}
	return out
}

func (f *fetcher) wants(what string, resp *kmsg.FetchResponse, want ...seen) {
	f.t.Helper()
	if diff := cmp.Diff(want, see(resp)); diff != "" || resp.ErrorCode != 0 {
		f.t.Errorf("%s: error %d (-want +got):\n%s", what, resp.ErrorCode, diff)
	}
}

// TestFetchSession goes through a session as KIP-227 describes it.
func TestFetchSession(t *testing.T) {
	f := newFetcher(t, newServer(t))
	f.topic("t", 3)
	f.produce("t", 1, 2)
	first := f.fetch(f.request(0, 0, "t", from{0, 0}, from{1, 0}, from{2, 0}, from{9, 0}))
	id := first.SessionID
	if id == 0 {
		t.Fatal("got session 0, want a session")
	}
	unknown := kerr.UnknownTopicOrPartition.Code
	f.wants("the first answer has every partition", first,
		seen{0, 0, false, 0}, seen{1, 0, true, 2}, seen{2, 0, false, 0}, seen{9, unknown, false, -1})

	forget := f.request(id, 1, "t", from{1, 2})
	forget.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: "t", Partitions: []int32{9}}}
	f.wants("nothing is new", f.fetch(forget))

	f.produce("t", 2, 5)
	f.wants("one has records", f.fetch(f.request(id, 2, "")), seen{2, 0, true, 5})
	f.wants("it has them until the client moves on", f.fetch(f.request(id, 3, "")), seen{2, 0, true, 5})
	f.wants("the client moved on", f.fetch(f.request(id, 4, "t", from{2, 5})))

	f.produce("t", 1, 1)
	both := f.request(id, 5, "t", from{0, 100})
	f.wants("one out of range, one with records", f.fetch(both), seen{0, kerr.OffsetOutOfRange.Code, false, -1}, seen{1, 0, true, 3})
	f.wants("back in range, its bounds are told again", f.fetch(f.request(id, 6, "t", from{0, 0}, from{1, 3})), seen{0, 0, false, 0})

	for name, tt := range map[string]struct {
		id, epoch int32
		want      *kerr.Error
	}{
		"unknown session": {id + 1, 7, kerr.FetchSessionIDNotFound},
		"wrong epoch":     {id, 9, kerr.InvalidFetchSessionEpoch},
	} {
		if got := f.fetch(f.request(tt.id, tt.epoch, "")); got.ErrorCode != tt.want.Code || got.SessionID != 0 {
			t.Errorf("%s: got error %d, session %d, want %d and 0", name, got.ErrorCode, got.SessionID, tt.want.Code)
		}
	}
	byID := f.request(id, 7, "")
	byID.Version = 13
	if got := f.fetch(byID); got.ErrorCode != kerr.FetchSessionTopicIDError.Code {
		t.Errorf("ids in a session of names: got error %d", got.ErrorCode)
	}
	if got := f.fetch(f.request(id, -1, "t", from{1, 0})); got.SessionID != 0 {
		t.Errorf("final epoch: got session %d, want none", got.SessionID)
	}
	if got := f.fetch(f.request(id, 7, "")); got.ErrorCode != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("after the end: got error %d", got.ErrorCode)
	}
	if !f.s.sessions.take(maxSessions, maxSessionParts) {
		t.Error("something is still counted")
	}
}

// TestFetchSessionWaits: records that come while a session waits end the wait,
// and its topic's end too.
func TestFetchSessionWaits(t *testing.T) {
	f := newFetcher(t, newServer(t))
	f.topic("t", 2)
	id := f.fetch(f.request(0, 0, "t", from{0, 0}, from{1, 0})).SessionID
	later := make(chan *kmsg.FetchResponse)
	wait := func(epoch int32) {
		req := f.request(id, epoch, "")
		req.MaxWaitMillis = 9000
		go func() { later <- f.fetch(req) }()
	}
	wait(1)
	f.produce("t", 1, 1)
	f.wants("records came", <-later, seen{1, 0, true, 1})
	f.fetch(f.request(id, 2, "t", from{1, 1}))
	wait(3)
	if err := f.s.Catalog.Delete("t"); err != nil {
		t.Fatal(err)
	}
	if got := see(<-later); len(got) == 0 || got[0].Err == 0 {
		t.Errorf("the topic is deleted: got %v, want errors", got)
	}
}

// TestFetchTurns: a session whose answers are full gives every partition its
// turn, also one whose first batch did not fit into what was left.
func TestFetchTurns(t *testing.T) {
	for _, max := range []int32{1000, 2500} {
		t.Run(fmt.Sprint(max), func(t *testing.T) { fetchTurns(t, max) })
	}
}

func fetchTurns(t *testing.T, max int32) {
	f := newFetcher(t, newServer(t))
	f.topic("t", 4)
	var all []from
	for p := range int32(4) {
		f.append("t", p, batchOf(1, 1000, 0))
		f.append("t", p, batchOf(1, 1000, 0))
		all = append(all, from{p, 0})
	}
	req := f.request(0, 0, "t", all...)
	turns := map[int32]bool{}
	for epoch := range int32(4) {
		req.MaxBytes = max
		resp := f.fetch(req)
		for _, p := range see(resp) {
			if p.Records {
				turns[p.Part] = true
			}
		}
		id := resp.SessionID
		req = f.request(id, epoch+1, "")
	}
	if len(turns) != 4 {
		t.Errorf("four answers had records of partitions %v, want all four", turns)
	}
}

// TestFetchSessionLimits: no session is made beyond the limits, and a
// connection's end makes room.
func TestFetchSessionLimits(t *testing.T) {
	s := newServer(t)
	f := newFetcher(t, s)
	f.topic("t", 1)
	s.sessions.take(maxSessions, 0)
	if got := f.fetch(f.request(0, 0, "t", from{0, 0})); got.SessionID != 0 {
		t.Errorf("got session %d, want none", got.SessionID)
	}
	s.sessions.give(maxSessions, 0)
	s.sessions.take(0, maxSessionParts-1)
	id := f.fetch(f.request(0, 0, "t", from{0, 0})).SessionID
	if id == 0 {
		t.Error("got no session, want one")
	}
	if got := f.fetch(f.request(id, 1, "t", from{1, 0})); got.ErrorCode != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("one partition too many: got error %d", got.ErrorCode)
	}
	f.c.Close()
	eventually(t, "the session has ended", func() bool { return s.sessions.take(1, 1) })
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// TestFetchMinBytes: a client that wants more than an answer can hold does not
// wait for it.
func TestFetchMinBytes(t *testing.T) {
	f := newFetcher(t, newServer(t))
	f.topic("t", 1)
	f.append("t", 0, batchOf(1, 5000, 0))
	f.append("t", 0, batchOf(1, 5000, 0))
	for name, change := range map[string]func(*kmsg.FetchRequest){
		"more than max bytes":           func(r *kmsg.FetchRequest) { r.MaxBytes = 5000 },
		"more than partition max bytes": func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].PartitionMaxBytes = 5000 },
	} {
		req := f.request(0, -1, "t", from{0, 0})
		req.MinBytes, req.MaxWaitMillis = 1<<30, 60000
		change(req)
		f.wants(name, f.fetch(req), seen{0, 0, true, 2})
	}
}

// TestFetchZstd: a client before version 10 is not sent zstd.
func TestFetchZstd(t *testing.T) {
	f := newFetcher(t, newServer(t))
	f.topic("t", 1)
	f.append("t", 0, batchOf(1, 100, 0))
	plain := len(batchOf(1, 100, 0))
	f.append("t", 0, batchOf(1, 100, 4))
	for _, tt := range []struct {
		version int16
		offset  int64
		err     int16
		bytes   int
	}{
		{9, 0, 0, plain}, {9, 1, kerr.UnsupportedCompressionType.Code, 0},
		{10, 0, 0, 2 * plain}, {10, 1, 0, plain},
	} {
		req := f.request(0, -1, "t", from{0, tt.offset})
		req.Version = tt.version
		p := f.fetch(req).Topics[0].Partitions[0]
		if p.ErrorCode != tt.err || len(p.RecordBatches) != tt.bytes {
			t.Errorf("version %d from %d: got error %d and %d bytes, want %d and %d", tt.version, tt.offset, p.ErrorCode, len(p.RecordBatches), tt.err, tt.bytes)
		}
	}
}

// transactional is a batch of one record in a producer's transaction.
func transactional(producer int64, seq int32) []byte {
	b := batchOf(1, 10, 0x10)
	binary.BigEndian.PutUint64(b[43:], uint64(producer))
	binary.BigEndian.PutUint16(b[51:], 0)
	binary.BigEndian.PutUint32(b[53:], uint32(seq))
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
