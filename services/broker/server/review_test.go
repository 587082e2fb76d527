package server

import (
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/meta"
)

// What is asked for a thousand times is answered once: an answer must not be
// larger than its request by more than what there is to tell.
func TestRepetitionsAreAnsweredOnce(t *testing.T) {
	s := newServer(t)
	if _, err := s.Catalog.Create("t", 50, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Meta.Commit("g", []meta.Offset{{Topic: "t", Offset: 1, LeaderEpoch: -1}}); err != nil {
		t.Fatal(err)
	}
	metadata, offsets, configs := kmsg.NewPtrMetadataRequest(), kmsg.NewPtrOffsetFetchRequest(), kmsg.NewPtrDescribeConfigsRequest()
	producers := kmsg.NewPtrDescribeProducersRequest()
	topic := "t"
	for range 1000 {
		metadata.Topics = append(metadata.Topics, kmsg.MetadataRequestTopic{Topic: &topic})
		offsets.Groups = append(offsets.Groups, kmsg.OffsetFetchRequestGroup{Group: "g", MemberEpoch: -1})
		configs.Resources = append(configs.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"})
		producers.Topics = append(producers.Topics, kmsg.DescribeProducersRequestTopic{Topic: "t", Partitions: make([]int32, 10)})
	}
	if got := len(ask[*kmsg.MetadataResponse](t, s, metadata, 12).Topics); got != 1 {
		t.Errorf("metadata: got %d answers, want 1", got)
	}
	if got := len(ask[*kmsg.OffsetFetchResponse](t, s, offsets, 9).Groups); got != 1 {
		t.Errorf("offsets: got %d answers, want 1", got)
	}
	if got := ask[*configsAnswer](t, s, configs, 4).resources; got != 1 {
		t.Errorf("configs: got %d answers, want 1", got)
	}
	told := 0
	for _, rt := range ask[*kmsg.DescribeProducersResponse](t, s, producers, 0).Topics {
		told += len(rt.Partitions)
	}
	if told != 1 {
		t.Errorf("producers: got %d partitions, want 1", told)
	}
}

// The name of the box's own services cannot be had by logging in.
func TestNobodyLogsInAsTheBox(t *testing.T) {
	c := &conn{s: newServer(t)}
	c.guard.sec = &auth.Security{SASL: &auth.SASL{}}
	if err := c.prove(&auth.Identity{User: "box"}); err == nil || c.guard.open {
		t.Errorf("got %v, open %v, want a refusal", err, c.guard.open)
	}
}

// The coordinator is where the metadata says that the broker is, on every
// listener.
func TestCoordinatorAddress(t *testing.T) {
	s := newServer(t)
	s.Config.Advertise = func(net.Conn) (string, int32) { return "default.example", 9092 }
	c := &conn{s: s}
	c.guard.sec = &auth.Security{Advertise: func(net.Conn) (string, int32) { return "named.example", 9094 }}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKey = 2, "g"
	got := handleFindCoordinator(s, t.Context(), &request{from: c, version: 2, msg: req}, req).(*kmsg.FindCoordinatorResponse)
	if got.Host != "named.example" || got.Port != 9094 {
		t.Errorf("got %s:%d, want that of the listener", got.Host, got.Port)
	}
}

func TestMutationsCountWhatWasDone(t *testing.T) {
	req, resp := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewPtrCreateTopicsResponse()
	req.Topics = []kmsg.CreateTopicsRequestTopic{{NumPartitions: 1<<31 - 1}, {NumPartitions: 3}}
	resp.Topics = []kmsg.CreateTopicsResponseTopic{{ErrorCode: kerr.InvalidPartitions.Code}, {}}
	if got := mutations(req, resp); got != 3 {
		t.Errorf("got %d partitions, want 3", got)
	}
}
