package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// DescribeGroups: classic groups with their members. One that does not exist,
// or is of the consumer protocol or a share group, is Dead, and from version 6
// on an error (KIP-1043).
var describeGroupsAPI = api{key: kmsg.DescribeGroups, min: 0, max: 6, handle: typed(handleDescribeGroups)}

func handleDescribeGroups(s *Server, _ context.Context, r *request, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	for _, id := range once(req.Groups, itself) {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.AuthorizedOperations = id, noAuthorizedOperations
		if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeGroup, id); err != nil {
			g.ErrorCode = code(err)
			resp.Groups = append(resp.Groups, g)
			continue
		}
		info := s.Groups.Describe(id)
		if info.State == group.Dead && req.Version >= 6 {
			text := "group " + id + " is not a classic group, or does not exist"
			g.ErrorCode, g.ErrorMessage = kerr.GroupIDNotFound.Code, &text
		}
		if req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeGroup, id)
		}
		g.State, g.ProtocolType, g.Protocol = string(info.State), info.ProtocolType, info.Protocol
		for _, m := range info.Members {
			g.Members = append(g.Members, kmsg.DescribeGroupsResponseGroupMember{
				MemberID: m.ID, InstanceID: ref(m.Instance), ClientID: m.Client, ClientHost: m.Host,
				ProtocolMetadata: orEmpty(m.Metadata), MemberAssignment: orEmpty(m.Assignment),
			})
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// orEmpty is for bytes that must not be null.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
