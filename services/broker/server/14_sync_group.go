package server

import (
	"bytes"
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// SyncGroup: the leader of a classic group hands in what it has assigned,
// every member gets its part, when all of it is durable: a member goes on
// after a restart of the broker as if nothing had been. Static members from
// version 3, protocol checked from 5.
var syncGroupAPI = api{key: kmsg.SyncGroup, min: 0, max: 5, handle: handleSyncGroup}

func handleSyncGroup(s *Server, _ context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.SyncGroupRequest)
	resp := req.ResponseKind().(*kmsg.SyncGroupResponse)
	if err := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group); err != nil {
		fillSync(resp, group.SyncResult{Err: err})
		return answer{msg: resp}, nil
	}
	sync := group.SyncRequest{
		Member:       group.Member{Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation},
		ProtocolType: deref(req.ProtocolType), Protocol: deref(req.Protocol),
		Assignments: make(map[string][]byte),
	}
	for _, a := range req.GroupAssignment {
		sync.Assignments[a.MemberID] = bytes.Clone(a.MemberAssignment)
	}
	return answer{msg: resp, later: &waiting[group.SyncResult]{
		ch: s.Groups.BeginSync(sync), fill: func(res group.SyncResult) { fillSync(resp, res) },
		none: group.SyncResult{Err: kerr.CoordinatorNotAvailable},
	}}, nil
}

func fillSync(resp *kmsg.SyncGroupResponse, res group.SyncResult) {
	resp.ErrorCode, resp.MemberAssignment = coordinatorCode(res.Err), orEmpty(res.Assignment)
	resp.ProtocolType, resp.Protocol = ref(res.ProtocolType), ref(res.Protocol)
}
