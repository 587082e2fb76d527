package server

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// setQuota sets one value for parts such as "user=ann"; a nil name is the
// default.
func setQuota(c talker, name string, value float64, parts ...kmsg.AlterClientQuotasRequestEntryEntity) int16 {
	c.t.Helper()
	req, resp := kmsg.NewPtrAlterClientQuotasRequest(), kmsg.NewPtrAlterClientQuotasResponse()
	req.Version = 1
	op := kmsg.AlterClientQuotasRequestEntryOp{Key: name, Value: value, Remove: value < 0}
	req.Entries = []kmsg.AlterClientQuotasRequestEntry{{Entity: parts, Ops: []kmsg.AlterClientQuotasRequestEntryOp{op}}}
	if !c.ask(req, resp) {
		c.t.Fatal("closed")
	}
	return resp.Entries[0].ErrorCode
}

func quotaFor(kind, name string) kmsg.AlterClientQuotasRequestEntryEntity {
	e := kmsg.AlterClientQuotasRequestEntryEntity{Type: kind}
	if name != "" {
		e.Name = &name
	}
	return e
}

// TestThrottled: a client beyond its quota is told so, and is not read from
// meanwhile; without the quota it is again as it was.
func TestThrottled(t *testing.T) {
	s := newServer(t)
	if _, err := s.Catalog.Create("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	c := talker{t, dial(t, listen(t, s))}
	produce := func() int32 {
		req, resp := kmsg.NewPtrProduceRequest(), kmsg.NewPtrProduceResponse()
		req.Version, req.Acks = 9, -1
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batchOf(1, 4000, 0)}}}}
		if !c.ask(req, resp) || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("produce: %+v", resp)
		}
		return resp.ThrottleMillis
	}
	fetch := func() int32 {
		req, resp := kmsg.NewPtrFetchRequest(), kmsg.NewPtrFetchResponse()
		req.Version, req.MaxBytes = 11, 1<<20
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes = 4000
		req.Topics = []kmsg.FetchRequestTopic{{Topic: "t", Partitions: []kmsg.FetchRequestTopicPartition{p}}}
		if !c.ask(req, resp) || len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Fatalf("fetch: %+v", resp)
		}
		return resp.ThrottleMillis
	}
	times := func(n int, f func() int32) (told time.Duration, took time.Duration) {
		begin := time.Now()
		for range n {
			told += time.Duration(f()) * time.Millisecond
		}
		return told, time.Since(begin)
	}
	if told, _ := times(20, produce); told != 0 {
		t.Errorf("without a quota the client is told to wait %v", told)
	}
	for name, f := range map[string]func() int32{"producer_byte_rate": produce, "consumer_byte_rate": fetch} {
		if code := setQuota(c, name, 40_000, quotaFor(quotaClient, "test")); code != 0 {
			t.Fatalf("set %s: code %d", name, code)
		}
		told, took := times(16, f) // 64 KB and more: 24 KB beyond what a second holds, of which the last wait is not seen
		if told < 400*time.Millisecond || took < 400*time.Millisecond {
			t.Errorf("%s: told to wait %v, waited %v, want 0.6 s or so", name, told, took)
		}
		if code := setQuota(c, name, -1, quotaFor(quotaClient, "test")); code != 0 {
			t.Fatalf("remove %s: code %d", name, code)
		}
	}
	if told, _ := times(20, produce); told != 0 {
		t.Errorf("after the quota was removed the client is told to wait %v", told)
	}
}

// TestQuotaRequests: what may be set, and what is told of it.
func TestQuotaRequests(t *testing.T) {
	s := newServer(t)
	c := talker{t, dial(t, listen(t, s))}
	bad := kerr.InvalidRequest.Code
	user, client := quotaFor(quotaUser, "ann"), quotaFor(quotaClient, "app")
	for name, tt := range map[string]struct {
		key   string
		value float64
		parts []kmsg.AlterClientQuotasRequestEntryEntity
		want  int16
	}{
		"user":             {"producer_byte_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{user}, 0},
		"both":             {"producer_byte_rate", 2, []kmsg.AlterClientQuotasRequestEntryEntity{user, client}, 0},
		"default":          {"request_percentage", 0.5, []kmsg.AlterClientQuotasRequestEntryEntity{quotaFor(quotaUser, "")}, 0},
		"address":          {"connection_creation_rate", 100, []kmsg.AlterClientQuotasRequestEntryEntity{quotaFor(quotaIP, "192.0.2.1")}, 0},
		"nobody":           {"producer_byte_rate", 1, nil, bad},
		"twice":            {"producer_byte_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{user, user}, bad},
		"unknown part":     {"producer_byte_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{quotaFor("group", "g")}, bad},
		"unknown quota":    {"producer_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{user}, bad},
		"zero":             {"producer_byte_rate", 0, []kmsg.AlterClientQuotasRequestEntryEntity{user}, bad},
		"no address":       {"connection_creation_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{quotaFor(quotaIP, "x")}, bad},
		"address and user": {"connection_creation_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{quotaFor(quotaIP, "::1"), user}, bad},
		"bytes of address": {"producer_byte_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{quotaFor(quotaIP, "::1")}, bad},
		"user's rate":      {"connection_creation_rate", 1, []kmsg.AlterClientQuotasRequestEntryEntity{user}, bad},
	} {
		if code := setQuota(c, tt.key, tt.value, tt.parts...); code != tt.want {
			t.Errorf("%s: code %d, want %d", name, code, tt.want)
		}
	}
	exact, byDefault, anyOf := kmsg.QuotasMatchTypeExact, kmsg.QuotasMatchTypeDefault, kmsg.QuotasMatchTypeAny
	for name, tt := range map[string]struct {
		components []kmsg.DescribeClientQuotasRequestComponent
		strict     bool
		want       int
		code       int16
	}{
		"all":            {nil, false, 4, 0},
		"of users":       {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: quotaUser, MatchType: anyOf}}, false, 3, 0},
		"of users only":  {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: quotaUser, MatchType: anyOf}}, true, 2, 0},
		"of ann":         {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: quotaUser, MatchType: exact, Match: user.Name}}, false, 2, 0},
		"of the default": {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: quotaUser, MatchType: byDefault}}, false, 1, 0},
		"of addresses":   {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: quotaIP, MatchType: anyOf}}, true, 1, 0},
		"of groups":      {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: "group", MatchType: anyOf}}, false, 0, kerr.UnsupportedVersion.Code},
		"of no name":     {[]kmsg.DescribeClientQuotasRequestComponent{{EntityType: quotaUser, MatchType: exact}}, false, 0, bad},
	} {
		req, resp := kmsg.NewPtrDescribeClientQuotasRequest(), kmsg.NewPtrDescribeClientQuotasResponse()
		req.Version, req.Components, req.Strict = 1, tt.components, tt.strict
		if !c.ask(req, resp) || len(resp.Entries) != tt.want || resp.ErrorCode != tt.code {
			t.Errorf("%s: %d entries, code %d, want %d, %d", name, len(resp.Entries), resp.ErrorCode, tt.want, tt.code)
		}
	}
}

// TestConnectionQuota: an address that connects too often is held back, and
// closed.
func TestConnectionQuota(t *testing.T) {
	s := newServer(t)
	addr := listen(t, s)
	c := talker{t, dial(t, addr)}
	if code := setQuota(c, "connection_creation_rate", 0.001, quotaFor(quotaIP, "127.0.0.1")); code != 0 {
		t.Fatalf("code %d", code)
	}
	for i, want := range []bool{true, false} {
		if got := (talker{t, dial(t, addr)}).isOpen(); got != want {
			t.Errorf("connection %d served: got %v, want %v", i, got, want)
		}
	}
	if !c.isOpen() {
		t.Error("the connection of before was closed")
	}
}
