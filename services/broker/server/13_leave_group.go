package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup: members go, and the others take over at once. Several members,
// by instance too, from version 3 (KIP-345). Administrators remove members of
// both kinds of groups with it.
var leaveGroupAPI = api{key: kmsg.LeaveGroup, min: 0, max: 5, handle: typed(handleLeaveGroup)}

func handleLeaveGroup(s *Server, _ context.Context, r *request, req *kmsg.LeaveGroupRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	if err := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group); err != nil {
		resp.ErrorCode = coordinatorCode(err)
		return resp
	}
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
