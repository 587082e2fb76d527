package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// DescribeGroups: groups with their members.
//
// Versions 0 to 5. A group that does not exist is Dead, without an error.
var describeGroupsAPI = api{key: kmsg.DescribeGroups, min: 0, max: 5, handle: typed(handleDescribeGroups)}

func handleDescribeGroups(s *Server, _ context.Context, _ *request, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	for _, id := range req.Groups {
		info := s.groupInfo(id)
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.State, g.ProtocolType, g.Protocol = id, string(info.State), info.ProtocolType, info.Protocol
		g.AuthorizedOperations = noAuthorizedOperations
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

// groupInfo knows groups that have committed and have no members too.
func (s *Server) groupInfo(id string) group.Info {
	info := s.Groups.Describe(id)
	if info.State == group.Dead && s.Meta.HasGroup(id) {
		info.State, info.ProtocolType = group.Empty, "consumer"
	}
	return info
}

// orEmpty is for bytes that must not be null.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
