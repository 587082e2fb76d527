package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// CreatePartitions: raises a topic's number of partitions; answered when they
// are durable.
//
// A replica assignment may name the one broker only.
var createPartitionsAPI = api{key: kmsg.CreatePartitions, min: 0, max: 3, handle: typed(handleCreatePartitions)}

func handleCreatePartitions(s *Server, _ context.Context, r *request, req *kmsg.CreatePartitionsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	seen := map[string]int{}
	for _, rt := range req.Topics {
		seen[rt.Topic]++
	}
	for _, rt := range req.Topics {
		err := s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeTopic, rt.Topic)
		if err == nil && seen[rt.Topic] > 1 {
			err = fmt.Errorf("%w: topic %s is in the request twice", kerr.InvalidRequest, rt.Topic)
		}
		if err == nil {
			err = s.grow(rt, req.ValidateOnly)
		}
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic, out.ErrorCode, out.ErrorMessage = rt.Topic, code(err), message(err)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (s *Server) grow(rt kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	t := s.Catalog.Get(rt.Topic)
	if t == nil {
		return fmt.Errorf("%w: %s", catalog.ErrUnknown, rt.Topic)
	}
	if rt.Assignment != nil && len(rt.Assignment) != int(rt.Count)-len(t.Partitions) {
		return fmt.Errorf("%w: %d new partitions are assigned, %d are asked for", kerr.InvalidReplicaAssignment, len(rt.Assignment), int(rt.Count)-len(t.Partitions))
	}
	for _, a := range rt.Assignment {
		if !isOnlyReplica(a.Replicas) {
			return fmt.Errorf("%w: the only broker is %d", kerr.InvalidReplicaAssignment, NodeID)
		}
	}
	if validateOnly {
		return s.Catalog.CheckGrow(t, rt.Count)
	}
	return s.Catalog.Grow(rt.Topic, rt.Count)
}
