package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionAssignments: takes an assignment to the one broker, which
// every partition has, and refuses others.
//
// For tools that reassign partitions as a matter of course.
var alterPartitionAssignmentsAPI = api{key: kmsg.AlterPartitionAssignments, min: 0, max: 1, handle: typed(handleAlterPartitionAssignments)}

func handleAlterPartitionAssignments(s *Server, _ context.Context, r *request, req *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	if err := s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		st := kmsg.AlterPartitionAssignmentsResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			_, err := logOf(t, rp.Partition)
			if err == nil {
				err = checkReassignment(rp.Replicas)
			}
			st.Partitions = append(st.Partitions, kmsg.AlterPartitionAssignmentsResponseTopicPartition{
				Partition: rp.Partition, ErrorCode: code(err), ErrorMessage: message(err),
			})
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// checkReassignment judges a list of replicas; nil takes back a reassignment
// under way.
func checkReassignment(replicas []int32) error {
	switch {
	case replicas == nil:
		return kerr.NoReassignmentInProgress
	case !isOnlyReplica(replicas):
		return fmt.Errorf("%w: the only broker is %d", kerr.InvalidReplicaAssignment, NodeID)
	}
	return nil
}
