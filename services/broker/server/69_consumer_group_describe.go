package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// ConsumerGroupDescribe: groups of the consumer protocol with their members,
// what each has and what it shall have. The type of a member is told from
// version 1 on.
var consumerGroupDescribeAPI = api{key: kmsg.ConsumerGroupDescribe, min: 0, max: 1, handle: typed(handleConsumerGroupDescribe)}

// Types of members.
const (
	classicMemberType  = 0
	consumerMemberType = 1
)

func handleConsumerGroupDescribe(s *Server, _ context.Context, r *request, req *kmsg.ConsumerGroupDescribeRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ConsumerGroupDescribeResponse)
	for _, id := range once(req.Groups, itself) {
		g := s.describeConsumers(r, id)
		if g.ErrorCode == 0 && req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeGroup, id)
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

func (s *Server) describeConsumers(r *request, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	g := kmsg.NewConsumerGroupDescribeResponseGroup()
	g.Group = id
	err := s.inForce(groupVersion)
	if err == nil {
		err = s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeGroup, id)
	}
	var info group.ConsumerInfo
	if err == nil {
		info, err = s.Groups.DescribeConsumer(id)
	}
	if err != nil {
		g.ErrorCode, g.ErrorMessage = code(err), message(err)
		return g
	}
	for _, m := range info.Members {
		km := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		km.MemberID, km.InstanceID, km.RackID = m.ID, ref(m.Instance), ref(m.Rack)
		km.MemberEpoch, km.ClientID, km.ClientHost = m.Epoch, m.Client, m.Host
		km.SubscribedTopics, km.SubscribedTopicRegex, km.MemberType = m.Topics, ref(m.Regex), consumerMemberType
		if m.Classic {
			km.MemberType = classicMemberType
		}
		var may [2]bool
		km.Assignment, may[0] = s.toldAssignment(r, m.Assigned)
		km.TargetAssignment, may[1] = s.toldAssignment(r, m.Target)
		if may != [2]bool{true, true} {
			g.ErrorCode, g.ErrorMessage = kerr.TopicAuthorizationFailed.Code, message(kerr.TopicAuthorizationFailed)
			g.Members = nil
			return g
		}
		g.Members = append(g.Members, km)
	}
	g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName = string(info.State), info.Epoch, info.AssignmentEpoch, info.Assignor
	return g
}

// toldAssignment is an assignment by topic name, if the client may know of
// all its topics.
func (s *Server) toldAssignment(r *request, ps []group.TopicPartitions) (a kmsg.Assignment, may bool) {
	for _, p := range ps {
		if !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, p.Name) {
			return kmsg.Assignment{}, false
		}
		a.TopicPartitions = append(a.TopicPartitions, kmsg.AssignmentTopicPartition{TopicID: p.ID, Topic: p.Name, Partitions: p.Partitions})
	}
	return a, true
}
