package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/share"
)

// ShareGroupDescribe: share groups with their members and the partitions that
// each shares.
var shareGroupDescribeAPI = api{key: kmsg.ShareGroupDescribe, min: 1, max: 1, handle: typed(handleShareGroupDescribe)}

func handleShareGroupDescribe(s *Server, _ context.Context, r *request, req *kmsg.ShareGroupDescribeRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ShareGroupDescribeResponse)
	for _, id := range once(req.GroupIDs, itself) {
		g := s.describeShares(r, id)
		if g.ErrorCode == 0 && req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeGroup, id)
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

func (s *Server) describeShares(r *request, id string) kmsg.ShareGroupDescribeResponseGroup {
	g := kmsg.NewShareGroupDescribeResponseGroup()
	g.GroupID = id
	err := s.refusedShares(r, kmsg.ACLOperationDescribe, id)
	var info share.Info
	if err == nil {
		info, err = s.Shares.Describe(id)
	}
	if err != nil {
		g.ErrorCode, g.ErrorMessage = code(err), message(err)
		return g
	}
	for _, m := range info.Members {
		km := kmsg.NewShareGroupDescribeResponseGroupMember()
		km.MemberID, km.RackID, km.MemberEpoch = m.ID, ref(m.Rack), m.Epoch
		km.ClientID, km.ClientHost, km.SubscribedTopicNames = m.Client, m.Host, m.Topics
		for _, p := range m.Assigned {
			if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, p.Name); err != nil {
				g.ErrorCode, g.ErrorMessage, g.Members = kerr.TopicAuthorizationFailed.Code, message(err), nil
				return g
			}
			km.Assignment.TopicPartitions = append(km.Assignment.TopicPartitions, kmsg.ShareGroupDescribeResponseGroupMemberAssignmentTopicPartition{
				TopicID: p.ID, Topic: p.Name, Partitions: p.Partitions,
			})
		}
		g.Members = append(g.Members, km)
	}
	g.GroupState, g.GroupEpoch, g.AssignmentEpoch, g.Assignor = info.State, info.Epoch, info.Epoch, share.Assignor
	return g
}
