package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator: which broker coordinates a group; always this one.
//
// Versions 0 to 5; several keys at once from 4 on. Transactions are not
// served yet: their coordinator is refused with an error that every client
// gives up on.
var findCoordinatorAPI = api{key: kmsg.FindCoordinator, min: 0, max: 5, handle: typed(handleFindCoordinator)}

const groupCoordinator = 0

func handleFindCoordinator(s *Server, _ context.Context, r *request, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	host, port := s.Advertise(r.conn)
	one := func(key string) kmsg.FindCoordinatorResponseCoordinator {
		if req.CoordinatorType != groupCoordinator {
			err := kerr.TransactionalIDAuthorizationFailed
			text := "transactions are not supported by this broker"
			return kmsg.FindCoordinatorResponseCoordinator{Key: key, NodeID: -1, Port: -1, ErrorCode: err.Code, ErrorMessage: &text}
		}
		return kmsg.FindCoordinatorResponseCoordinator{Key: key, NodeID: NodeID, Host: host, Port: port}
	}
	if req.Version >= 4 {
		for _, key := range req.CoordinatorKeys {
			resp.Coordinators = append(resp.Coordinators, one(key))
		}
		return resp
	}
	c := one(req.CoordinatorKey)
	resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
	resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
	return resp
}
