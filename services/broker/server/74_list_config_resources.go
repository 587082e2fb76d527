package server

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources: what has a configuration (KIP-1142).
//
// Version 0 lists client metrics, of which there are none.
var listConfigResourcesAPI = api{key: kmsg.ListConfigResources, min: 0, max: 1, handle: typed(handleListConfigResources)}

func handleListConfigResources(s *Server, _ context.Context, r *request, req *kmsg.ListConfigResourcesRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	if err := s.refused(r, kmsg.ACLOperationDescribeConfigs, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	if req.Version == 0 {
		return resp
	}
	list := func(kind kmsg.ConfigResourceType, names ...string) {
		if len(req.ResourceTypes) > 0 && !slices.Contains(req.ResourceTypes, int8(kind)) {
			return
		}
		for _, name := range names {
			resp.ConfigResources = append(resp.ConfigResources, kmsg.ListConfigResourcesResponseConfigResource{Name: name, Type: int8(kind)})
		}
	}
	for _, t := range s.Catalog.All() {
		list(kmsg.ConfigResourceTypeTopic, t.Name)
	}
	list(kmsg.ConfigResourceTypeBroker, strconv.Itoa(NodeID))
	list(kmsg.ConfigResourceTypeBrokerLogger, strconv.Itoa(NodeID))
	for _, res := range s.Meta.Configured() {
		if kind := kmsg.ConfigResourceType(res.Type); kind != kmsg.ConfigResourceTypeBroker {
			list(kind, res.Name)
		}
	}
	return resp
}
