package server

import (
	"bytes"
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// JoinGroup: become a member of a group's next generation.
//
// Versions 0 to 9: rebalance timeout from 1, member id required from 4
// (KIP-394), static members from 5 (KIP-345).
var joinGroupAPI = api{key: kmsg.JoinGroup, min: 0, max: 9, handle: typed(handleJoinGroup)}

func handleJoinGroup(s *Server, ctx context.Context, r *request, req *kmsg.JoinGroupRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	j := group.JoinRequest{
		Group: req.Group, MemberID: req.MemberID, Instance: deref(req.InstanceID),
		Client: r.client, Host: clientHost(r.conn),
		Session:      time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		Rebalance:    time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		ProtocolType: req.ProtocolType, NeedsID: req.Version >= 4,
	}
	if req.Version == 0 {
		j.Rebalance = j.Session
	}
	for _, p := range req.Protocols {
		j.Protocols = append(j.Protocols, group.Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
	}
	res := s.Groups.Join(ctx, j)
	resp.ErrorCode, resp.MemberID, resp.Generation = coordinatorCode(res.Err), res.MemberID, res.Generation
	resp.LeaderID = res.Leader
	resp.Protocol = &res.Protocol
	if res.ProtocolType != "" {
		resp.ProtocolType = &res.ProtocolType
	}
	if req.Version >= 7 && res.Protocol == "" {
		resp.Protocol = nil
	}
	for _, m := range res.Members {
		resp.Members = append(resp.Members, kmsg.JoinGroupResponseMember{
			MemberID: m.ID, InstanceID: ref(m.Instance), ProtocolMetadata: m.Metadata,
		})
	}
	return resp
}

// ref is nil for "".
func ref(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
