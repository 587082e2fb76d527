package server

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator: which broker coordinates a group, a transactional id or a
// share group's partition; always this one. Several keys at once from version
// 4 on.
var findCoordinatorAPI = api{key: kmsg.FindCoordinator, min: 0, max: 6, handle: typed(handleFindCoordinator)}

// Types of coordinator.
const (
	groupCoordinator = 0
	txnCoordinator   = 1
	shareCoordinator = 2 // from version 6 on; keys are group:topic id:partition
)

func handleFindCoordinator(s *Server, _ context.Context, r *request, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	host, port := s.advertise(r)
	one := func(key string) kmsg.FindCoordinatorResponseCoordinator {
		if err := s.checkCoordinator(r, req, key); err != nil {
			return kmsg.FindCoordinatorResponseCoordinator{Key: key, NodeID: -1, Port: -1, ErrorCode: code(err), ErrorMessage: message(err)}
		}
		return kmsg.FindCoordinatorResponseCoordinator{Key: key, NodeID: NodeID, Host: host, Port: port}
	}
	if req.Version >= 4 {
		for _, key := range once(req.CoordinatorKeys, itself) {
			resp.Coordinators = append(resp.Coordinators, one(key))
		}
		return resp
	}
	c := one(req.CoordinatorKey)
	resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
	resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
	return resp
}

func (s *Server) checkCoordinator(r *request, req *kmsg.FindCoordinatorRequest, key string) error {
	switch {
	case req.CoordinatorType == groupCoordinator:
		return s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeGroup, key)
	case req.CoordinatorType == txnCoordinator:
		return s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTransactionalId, key)
	case req.CoordinatorType != shareCoordinator, req.Version < 6, strings.Count(key, ":") < 2:
		return kerr.InvalidRequest
	}
	return s.refused(r, kmsg.ACLOperationClusterAction, kmsg.ACLResourceTypeCluster, clusterName)
}
