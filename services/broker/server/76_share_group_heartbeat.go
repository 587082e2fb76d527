package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/share"
)

// ShareGroupHeartbeat: all that a member of a share group says (KIP-932) but
// for fetches: it joins, lives, learns which partitions it shares, and leaves.
//
// Version 0 was Kafka's early access, and is left out as in Kafka. The assignor
// is simple. Members are not kept over a restart: they are told
// UNKNOWN_MEMBER_ID, and join again. What a member has acquired is not given
// back when it leaves, but when its share session ends.
var shareGroupHeartbeatAPI = api{key: kmsg.ShareGroupHeartbeat, min: 1, max: 1, handle: typed(handleShareGroupHeartbeat)}

func handleShareGroupHeartbeat(s *Server, _ context.Context, r *request, req *kmsg.ShareGroupHeartbeatRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ShareGroupHeartbeatResponse)
	err := s.refusedShares(r, kmsg.ACLOperationRead, req.GroupID)
	for _, t := range req.SubscribedTopicNames {
		if err == nil {
			err = s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t)
		}
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	res := s.Shares.Heartbeat(share.HeartbeatRequest{
		Group: req.GroupID, MemberID: req.MemberID, Epoch: req.MemberEpoch, Rack: req.RackID,
		Topics: req.SubscribedTopicNames, Client: r.client, Host: clientHost(r.conn),
	})
	if res.Err != nil {
		resp.ErrorCode, resp.ErrorMessage = coordinatorCode(res.Err), &res.Text
		return resp
	}
	resp.MemberID, resp.MemberEpoch = &req.MemberID, res.Epoch
	resp.HeartbeatIntervalMillis = int32(res.Interval.Milliseconds())
	if res.Assigned == nil {
		return resp
	}
	resp.Assignment = &kmsg.ShareGroupHeartbeatResponseAssignment{}
	for _, p := range res.Assigned {
		resp.Assignment.TopicPartitions = append(resp.Assignment.TopicPartitions, kmsg.ShareGroupHeartbeatResponseAssignmentTopicPartition{
			TopicID: p.Topic, Partitions: p.Partitions,
		})
	}
	return resp
}
