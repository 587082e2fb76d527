package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments: none is ever under way.
//
// For tools that wait for the end of reassignments.
var listPartitionReassignmentsAPI = api{key: kmsg.ListPartitionReassignments, min: 0, max: 0, handle: typed(handleListPartitionReassignments)}

func handleListPartitionReassignments(s *Server, _ context.Context, r *request, req *kmsg.ListPartitionReassignmentsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeCluster, clusterName)
	resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
	return resp
}
