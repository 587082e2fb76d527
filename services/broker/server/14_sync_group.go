package server

import (
	"bytes"
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// SyncGroup: the leader hands in what it has assigned, every member gets its
// part.
//
// Versions 0 to 5; static members from 3, protocol checked from 5.
var syncGroupAPI = api{key: kmsg.SyncGroup, min: 0, max: 5, handle: typed(handleSyncGroup)}

func handleSyncGroup(s *Server, ctx context.Context, _ *request, req *kmsg.SyncGroupRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	r := group.SyncRequest{
		Member:       group.Member{Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation},
		ProtocolType: deref(req.ProtocolType), Protocol: deref(req.Protocol),
		Assignments: make(map[string][]byte),
	}
	for _, a := range req.GroupAssignment {
		r.Assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
	}
	res := s.Groups.Sync(ctx, r)
	resp.ErrorCode, resp.MemberAssignment = coordinatorCode(res.Err), res.Assignment
	resp.ProtocolType, resp.Protocol = ref(res.ProtocolType), ref(res.Protocol)
	if resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{} // not nullable
	}
	return resp
}
