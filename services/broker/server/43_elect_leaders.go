package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders: nothing to elect, since the one broker leads every partition.
//
// For tools that rebalance leaders as a matter of course.
var electLeadersAPI = api{key: kmsg.ElectLeaders, min: 0, max: 2, handle: typed(handleElectLeaders)}

func handleElectLeaders(s *Server, _ context.Context, r *request, req *kmsg.ElectLeadersRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	refused := s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName)
	resp.ErrorCode = code(refused)
	for _, rt := range req.Topics { // asked for all, Kafka lists those that changed: none
		t := s.Catalog.Get(rt.Topic)
		st := kmsg.ElectLeadersResponseTopic{Topic: rt.Topic}
		for _, part := range rt.Partitions {
			_, err := logOf(t, part)
			if err == nil {
				err = kerr.ElectionNotNeeded
			}
			if refused != nil {
				err = refused
			}
			st.Partitions = append(st.Partitions, kmsg.ElectLeadersResponseTopicPartition{
				Partition: part, ErrorCode: code(err), ErrorMessage: message(err),
			})
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}
