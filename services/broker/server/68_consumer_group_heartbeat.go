package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
)

// ConsumerGroupHeartbeat: all that a member of the consumer protocol says
// (KIP-848): it joins, lives, gives partitions up, learns what it is assigned,
// and leaves. Answered when what it tells is durable.
//
// Assignors: uniform (the default) and range, both of this broker; racks are
// noted and not considered. Regular expressions (RE2, the whole name) from
// version 1 on, which also has members choose their ids. A classic group
// moves over with its members (see JoinGroup), unless they are no consumers or
// have an assignor that hands out data of its own: GROUP_ID_NOT_FOUND.
var consumerGroupHeartbeatAPI = api{key: kmsg.ConsumerGroupHeartbeat, min: 0, max: 1, handle: typed(handleConsumerGroupHeartbeat)}

func handleConsumerGroupHeartbeat(s *Server, ctx context.Context, r *request, req *kmsg.ConsumerGroupHeartbeatRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
	err := s.inForce(groupVersion)
	if err == nil {
		err = s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group)
	}
	for _, t := range req.SubscribedTopicNames {
		if err == nil {
			err = s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t)
		}
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	hb := group.HeartbeatRequest{
		Group: req.Group, MemberID: req.MemberID, Epoch: req.MemberEpoch, Instance: req.InstanceID, Rack: req.RackID,
		Rebalance: time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		Topics:    req.SubscribedTopicNames, Regex: req.SubscribedTopicRegex, Assignor: req.ServerAssignor,
		Client: r.client, Host: clientHost(r.conn), OldIDs: req.Version == 0,
		May: func(topic string) bool {
			return s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, topic)
		},
	}
	if req.Topics != nil {
		hb.Owned = []meta.GroupPartition{}
	}
	for _, t := range req.Topics {
		hb.Owned = append(hb.Owned, meta.GroupPartition{Topic: t.TopicID, Partitions: t.Partitions})
	}
	fillHeartbeat(resp, s.Groups.ConsumerHeartbeat(ctx, hb))
	return resp
}

func fillHeartbeat(resp *kmsg.ConsumerGroupHeartbeatResponse, res group.HeartbeatResult) {
	if res.Err != nil {
		resp.ErrorCode, resp.ErrorMessage = coordinatorCode(res.Err), message(res.Err)
		if res.Text != "" {
			resp.ErrorMessage = &res.Text
		}
		return
	}
	resp.MemberID, resp.MemberEpoch = &res.MemberID, res.Epoch
	resp.HeartbeatIntervalMillis = int32(res.Interval.Milliseconds())
	if res.Assigned == nil {
		return
	}
	resp.Assignment = &kmsg.ConsumerGroupHeartbeatResponseAssignment{}
	for _, p := range res.Assigned {
		resp.Assignment.Topics = append(resp.Assignment.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{
			TopicID: p.Topic, Partitions: p.Partitions,
		})
	}
}
