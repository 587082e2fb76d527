package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup: members go, and the others take over at once.
//
// Versions 0 to 5; several members, by instance too, from 3.
var leaveGroupAPI = api{key: kmsg.LeaveGroup, min: 0, max: 5, handle: typed(handleLeaveGroup)}

func handleLeaveGroup(s *Server, _ context.Context, _ *request, req *kmsg.LeaveGroupRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	if req.Version < 3 {
		resp.ErrorCode = coordinatorCode(s.Groups.Leave(req.Group, req.MemberID, ""))
		return resp
	}
	for _, m := range req.Members {
		err := s.Groups.Leave(req.Group, m.MemberID, deref(m.InstanceID))
		resp.Members = append(resp.Members, kmsg.LeaveGroupResponseMember{
			MemberID: m.MemberID, InstanceID: m.InstanceID, ErrorCode: coordinatorCode(err),
		})
	}
	return resp
}
