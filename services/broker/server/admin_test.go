package server

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestConfigsAnswer holds the response that is made while it is written to
// what kmsg makes of the whole.
func TestConfigsAnswer(t *testing.T) {
	s := newServer(t)
	if _, err := s.Catalog.Create("t", 1, map[string]string{"retention.ms": "1"}); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		for v := describeConfigsAPI.min; v <= describeConfigsAPI.max; v++ {
			req := kmsg.NewPtrDescribeConfigsRequest()
			req.Version, req.IncludeSynonyms, req.IncludeDocumentation = v, true, true
			for _, r := range []kmsg.DescribeConfigsRequestResource{
				{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"},
				{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "none"},
				{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"},
			}[:n] {
				req.Resources = append(req.Resources, r)
			}
			got := handleDescribeConfigs(s, t.Context(), &request{}, req).(*configsAnswer)
			got.SetThrottle(7)
			want := got.DescribeConfigsResponse
			for i := range n {
				want.Resources = append(want.Resources, got.describe(i))
			}
			if b := got.AppendTo([]byte("before")); !bytes.Equal(b, want.AppendTo([]byte("before"))) {
				t.Errorf("version %d with %d resources is encoded otherwise than by kmsg", v, n)
			}
			if n > 0 && len(want.Resources[0].Configs) == 0 {
				t.Error("nothing to compare")
			}
		}
	}
}

// TestApiVersionsMeant: a client that was sent here by another cluster's
// metadata is told to begin anew (KIP-1242).
func TestApiVersionsMeant(t *testing.T) {
	s := newServer(t)
	here, there := s.Meta.ClusterID(), "there"
	for _, tt := range []struct {
		cluster *string
		node    int32
		want    *kerr.Error
	}{
		{nil, -1, nil}, {&here, NodeID, nil}, {&there, NodeID, kerr.RebootstrapRequired}, {&here, 2, kerr.RebootstrapRequired},
		{&here, -1, kerr.InvalidRequest}, {nil, NodeID, kerr.InvalidRequest},
	} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClusterID, req.NodeID = 5, tt.cluster, tt.node
		a, err := handleAPIVersions(s, t.Context(), &request{version: 5, msg: req})
		if err != nil {
			t.Fatal(err)
		}
		resp := a.msg.(*kmsg.ApiVersionsResponse)
		if got := kerr.TypedErrorForCode(resp.ErrorCode); got != tt.want {
			t.Errorf("cluster %v, node %d: got %v, want %v", tt.cluster, tt.node, got, tt.want)
		}
		if (len(resp.ApiKeys) > 0) != (tt.want == nil) {
			t.Errorf("cluster %v, node %d: %d keys", tt.cluster, tt.node, len(resp.ApiKeys))
		}
	}
}
