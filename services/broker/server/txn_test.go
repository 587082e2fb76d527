package server

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// ask calls a handler as a connection would.
func ask[R kmsg.Response](t *testing.T, s *Server, req kmsg.Request, version int16) R {
	t.Helper()
	req.SetVersion(version)
	r := &request{key: req.Key(), version: version, msg: req, body: req.AppendTo(nil)}
	a, err := s.byKey[req.Key()].handle(s, t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if a.later != nil {
		a.later.wait(t.Context())
	}
	return a.msg.(R)
}

func txnServer(t *testing.T) (*Server, meta.ID) {
	t.Helper()
	s := newServer(t)
	topic, err := s.Catalog.Create("t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, topic.ID
}

func initProducer(t *testing.T, s *Server, id string) (int64, int16) {
	t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, 60000
	resp := ask[*kmsg.InitProducerIDResponse](t, s, req, 4)
	if resp.ErrorCode != 0 {
		t.Fatal(kerr.ErrorForCode(resp.ErrorCode))
	}
	return resp.ProducerID, resp.ProducerEpoch
}

func txnBatch(pid int64, epoch int16, seq int32) []byte {
	r := kmsg.Record{Value: []byte("v")}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{
		Magic: 2, Attributes: 0x10, ProducerID: pid, ProducerEpoch: epoch, FirstSequence: seq,
		NumRecords: 1, Records: r.AppendTo(nil),
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func produceOne(t *testing.T, s *Server, version int16, txnID *string, topic string, id meta.ID, batch []byte) error {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks = txnID, -1
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, TopicID: id, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	resp := ask[*kmsg.ProduceResponse](t, s, req, version)
	if version >= topicIDVersion && resp.Topics[0].TopicID != id {
		t.Errorf("answered for topic %v, asked for %v", resp.Topics[0].TopicID, id)
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// TestTxnErrors: each version is told in words that its clients know.
func TestTxnErrors(t *testing.T) {
	s, id := txnServer(t)
	pid, old := initProducer(t, s, "x")
	_, epoch := initProducer(t, s, "x") // fences the first
	x := "x"
	add := func(v int16, epoch int16, parts ...int32) error {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = x, pid, epoch
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: parts}}
		return kerr.ErrorForCode(ask[*kmsg.AddPartitionsToTxnResponse](t, s, req, v).Topics[0].Partitions[0].ErrorCode)
	}
	end := func(v int16, epoch int16) error {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = x, pid, epoch, true
		return kerr.ErrorForCode(ask[*kmsg.EndTxnResponse](t, s, req, v).ErrorCode)
	}
	group := func(v int16, epoch int16) error {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = x, pid, epoch, "g"
		return kerr.ErrorForCode(ask[*kmsg.AddOffsetsToTxnResponse](t, s, req, v).ErrorCode)
	}
	offset := func(v int16, epoch int16) error {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = x, pid, epoch, "g", -1
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", TopicID: id, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 5}}}}
		return kerr.ErrorForCode(ask[*kmsg.TxnOffsetCommitResponse](t, s, req, v).Topics[0].Partitions[0].ErrorCode)
	}
	again := func(v int16, epoch int16) error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &x, 60000, pid, epoch
		return kerr.ErrorForCode(ask[*kmsg.InitProducerIDResponse](t, s, req, v).ErrorCode)
	}
	put := func(v int16, epoch int16) error { return produceOne(t, s, v, &x, "t", id, txnBatch(pid, epoch, 0)) }
	for _, tt := range []struct {
		what string
		got  error
		want error
	}{
		{"add, fenced, old client", add(1, old, 0), kerr.InvalidProducerEpoch},
		{"add, fenced", add(2, old, 0), kerr.ProducerFenced},
		{"end, fenced, old client", end(1, old), kerr.InvalidProducerEpoch},
		{"end, fenced", end(2, old), kerr.ProducerFenced},
		{"group, fenced, old client", group(1, old), kerr.InvalidProducerEpoch},
		{"group, fenced", group(2, old), kerr.ProducerFenced},
		{"offset, fenced", offset(5, old), kerr.InvalidProducerEpoch},
		{"init, fenced, old client", again(3, 9), kerr.InvalidProducerEpoch},
		{"init, fenced", again(4, 9), kerr.ProducerFenced},
		{"produce, fenced", put(12, old), kerr.InvalidProducerEpoch},
		{"end of nothing", end(4, epoch), kerr.InvalidTxnState},
		{"add what is not there", add(3, epoch, 7), kerr.UnknownTopicOrPartition},
		{"add nothing, as one is not there", add(3, epoch, 1, 7), kerr.OperationNotAttempted},
		{"produce, not added, old client", put(10, epoch), kerr.InvalidTxnState},
		{"produce, not added", put(11, epoch), kerr.TransactionAbortable},
		{"offset, not announced, old client", offset(3, epoch), kerr.InvalidTxnState},
		{"offset, not announced", offset(4, epoch), kerr.TransactionAbortable},
		{"add", add(3, epoch, 0), nil},
		{"produce", put(11, epoch), nil},
		{"produce the same again, by topic id", put(13, epoch), nil},
		{"produce to an unknown id", produceOne(t, s, 13, &x, "", meta.ID{9}, txnBatch(pid, epoch, 1)), kerr.UnknownTopicID},
		{"produce without transactional id", produceOne(t, s, 11, nil, "t", id, txnBatch(pid, epoch, 1)), kerr.TransactionalIDAuthorizationFailed},
		{"produce with another's producer id", produceOne(t, s, 11, &x, "t", id, txnBatch(pid+1, epoch, 1)), kerr.InvalidProducerIDMapping},
		{"offset, by topic id", offset(6, epoch), nil},
		{"end", end(4, epoch), nil},
		{"end again", end(4, epoch), nil},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.what, tt.got, tt.want)
		}
	}
	if o, _ := s.Meta.Offset("g", "t", 0); o.Offset != 5 {
		t.Errorf("committed offset %d, want 5", o.Offset)
	}
}

// TestTxnOffsetCommitFences: a member that its group has left behind commits
// nothing (KIP-447).
func TestTxnOffsetCommitFences(t *testing.T) {
	s, _ := txnServer(t)
	pid, epoch := initProducer(t, s, "x")
	for name, tt := range map[string]struct {
		member     string
		generation int32
		want       error
	}{
		"nobody":           {"", -1, nil},
		"a generation":     {"", 3, kerr.IllegalGeneration},
		"member of before": {"m", 3, kerr.IllegalGeneration},
	} {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = "x", pid, epoch
		req.Group, req.Generation, req.MemberID = "g", tt.generation, tt.member
		req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 5}}}}
		resp := ask[*kmsg.TxnOffsetCommitResponse](t, s, req, 5)
		if got := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// TestBrokersAddPartitions: the form for brokers adds and verifies.
func TestBrokersAddPartitions(t *testing.T) {
	s, _ := txnServer(t)
	pid, epoch := initProducer(t, s, "x")
	for _, tt := range []struct {
		verify  bool
		parts   []int32
		version int16
		want    []error
	}{
		{true, []int32{0}, 4, []error{kerr.InvalidTxnState}},
		{false, []int32{0}, 4, []error{nil}},
		{true, []int32{0, 1, 5}, 5, []error{nil, kerr.TransactionAbortable, kerr.UnknownTopicOrPartition}},
	} {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{
			TransactionalID: "x", ProducerID: pid, ProducerEpoch: epoch, VerifyOnly: tt.verify,
			Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: "t", Partitions: tt.parts}},
		}}
		resp := ask[*kmsg.AddPartitionsToTxnResponse](t, s, req, tt.version)
		var got []error
		for _, p := range resp.Transactions[0].Topics[0].Partitions {
			got = append(got, kerr.ErrorForCode(p.ErrorCode))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestListTransactions(t *testing.T) {
	s, _ := txnServer(t)
	pid, epoch := initProducer(t, s, "open-1")
	other, _ := initProducer(t, s, "idle-2")
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = "open-1", pid, epoch, "g"
	ask[*kmsg.AddOffsetsToTxnResponse](t, s, req, 3)
	for name, tt := range map[string]struct {
		edit func(*kmsg.ListTransactionsRequest)
		want []string
	}{
		"all":          {func(*kmsg.ListTransactionsRequest) {}, []string{"idle-2", "open-1"}},
		"state":        {func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Ongoing", "Odd"} }, []string{"open-1"}},
		"producer":     {func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{other} }, []string{"idle-2"}},
		"long running": {func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 3600_000 }, nil},
		"pattern":      {func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("idle.*") }, []string{"idle-2"}},
		"part of one":  {func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = kmsg.StringPtr("idle") }, nil},
	} {
		req := kmsg.NewPtrListTransactionsRequest()
		tt.edit(req)
		resp := ask[*kmsg.ListTransactionsResponse](t, s, req, 2)
		var got []string
		for _, x := range resp.TransactionStates {
			got = append(got, x.TransactionalID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
		if name == "state" && !slices.Equal(resp.UnknownStateFilters, []string{"Odd"}) {
			t.Errorf("unknown filters: %v", resp.UnknownStateFilters)
		}
	}
	bad := kmsg.NewPtrListTransactionsRequest()
	bad.TransactionalIDPattern = kmsg.StringPtr("(")
	if resp := ask[*kmsg.ListTransactionsResponse](t, s, bad, 2); resp.ErrorCode != kerr.InvalidRegularExpression.Code {
		t.Errorf("a pattern that is none: %v", kerr.ErrorForCode(resp.ErrorCode))
	}
}

func TestFindCoordinator(t *testing.T) {
	s := newServer(t)
	for _, tt := range []struct {
		kind    int8
		key     string
		version int16
		want    error
	}{
		{groupCoordinator, "g", 6, nil},
		{txnCoordinator, "x", 6, nil},
		{shareCoordinator, "g:AAAAAAAAAAAAAAAAAAAAAA:0", 6, nil},
		{shareCoordinator, "g", 6, kerr.InvalidRequest},
		{shareCoordinator, "g:AAAAAAAAAAAAAAAAAAAAAA:0", 5, kerr.InvalidRequest},
		{3, "g", 6, kerr.InvalidRequest},
	} {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorType, req.CoordinatorKeys = tt.kind, []string{tt.key}
		c := ask[*kmsg.FindCoordinatorResponse](t, s, req, tt.version).Coordinators[0]
		if got := kerr.ErrorForCode(c.ErrorCode); got != tt.want || (got == nil) != (c.NodeID == NodeID) {
			t.Errorf("%+v: got %v, node %d", tt, got, c.NodeID)
		}
	}
}

// TestKeylessRecords: a compacted topic takes no record without a key, and
// says which it was.
func TestKeylessRecords(t *testing.T) {
	s := newServer(t)
	if _, err := s.Catalog.Create("c", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	batch := txnBatch(-1, -1, -1)
	binary.BigEndian.PutUint16(batch[21:], 0)
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "c", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	p := ask[*kmsg.ProduceResponse](t, s, req, 9).Topics[0].Partitions[0]
	if p.ErrorCode != kerr.InvalidRecord.Code || len(p.ErrorRecords) != 1 || p.ErrorRecords[0].RelativeOffset != 0 {
		t.Errorf("got %v, records %v", kerr.ErrorForCode(p.ErrorCode), p.ErrorRecords)
	}
}
