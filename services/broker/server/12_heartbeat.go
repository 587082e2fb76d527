package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// Heartbeat: a member says that it lives, and learns of rebalances.
//
// Versions 0 to 4; static members from 3.
var heartbeatAPI = api{key: kmsg.Heartbeat, min: 0, max: 4, handle: typed(handleHeartbeat)}

func handleHeartbeat(s *Server, _ context.Context, _ *request, req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
	resp.ErrorCode = coordinatorCode(s.Groups.Heartbeat(group.Member{
		Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation,
	}))
	return resp
}
