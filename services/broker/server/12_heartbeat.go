package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// Heartbeat: a member of a classic group says that it lives, and learns of
// rebalances. Static members from version 3.
var heartbeatAPI = api{key: kmsg.Heartbeat, min: 0, max: 4, handle: typed(handleHeartbeat)}

func handleHeartbeat(s *Server, _ context.Context, r *request, req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	err := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group)
	if err == nil {
		err = s.Groups.Heartbeat(group.Member{
			Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation,
		})
	}
	resp.ErrorCode = coordinatorCode(err)
	return resp
}
