package server

import (
	"bytes"
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// JoinGroup: become a member of a classic group's next generation.
//
// Rebalance timeout from version 1, member id required from 4 (KIP-394),
// static members from 5 (KIP-345), a static leader that comes back is told to
// skip assigning from 9 (KIP-814). All members of a group together may say
// 1 MiB. Where members of the consumer protocol are, too, the coordinator
// assigns and nobody leads (KIP-848). A group becomes one of the consumer
// protocol when a member of that joins, and classic when the last has left,
// with all others in it (group.consumer.migration.policy).
var joinGroupAPI = api{key: kmsg.JoinGroup, min: 0, max: 9, handle: handleJoinGroup}

// First versions of JoinGroup in which a new member comes twice, and in which
// a leader can be told to skip assigning.
const (
	joinNeedsID = 4
	joinSkips   = 9
)

func handleJoinGroup(s *Server, _ context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.JoinGroupRequest)
	resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
	if err := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group); err != nil {
		fillJoin(resp, group.JoinResult{Err: err, MemberID: req.MemberID, Generation: -1})
		return answer{msg: resp}, nil
	}
	j := group.JoinRequest{
		Group: req.Group, MemberID: req.MemberID, Instance: deref(req.InstanceID),
		Client: r.client, Host: clientHost(r.conn),
		Session:      time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		Rebalance:    time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		ProtocolType: req.ProtocolType, NeedsID: req.Version >= joinNeedsID, SkipsAssignment: req.Version >= joinSkips,
	}
	if req.Version == 0 {
		j.Rebalance = j.Session
	}
	for _, p := range req.Protocols {
		j.Protocols = append(j.Protocols, group.Protocol{Name: p.Name, Metadata: bytes.Clone(p.Metadata)})
	}
	return answer{msg: resp, later: &waiting[group.JoinResult]{
		ch: s.Groups.BeginJoin(j), fill: func(res group.JoinResult) { fillJoin(resp, res) },
		none: group.JoinResult{Err: kerr.CoordinatorNotAvailable, MemberID: req.MemberID, Generation: -1},
	}}, nil
}

func fillJoin(resp *kmsg.JoinGroupResponse, res group.JoinResult) {
	resp.ErrorCode, resp.MemberID, resp.Generation = coordinatorCode(res.Err), res.MemberID, res.Generation
	resp.LeaderID, resp.SkipAssignment = res.Leader, res.SkipAssignment
	resp.ProtocolType, resp.Protocol = ref(res.ProtocolType), &res.Protocol
	if resp.Version >= 7 && res.Protocol == "" {
		resp.Protocol = nil
	}
	for _, m := range res.Members {
		resp.Members = append(resp.Members, kmsg.JoinGroupResponseMember{
			MemberID: m.ID, InstanceID: ref(m.Instance), ProtocolMetadata: orEmpty(m.Metadata),
		})
	}
}

// ref is nil for "".
func ref(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
