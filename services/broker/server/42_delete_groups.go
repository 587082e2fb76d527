package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups: forgets groups without members, and what they have committed or,
// as share groups, acknowledged.
var deleteGroupsAPI = api{key: kmsg.DeleteGroups, min: 0, max: 3, handle: typed(handleDeleteGroups)}

func handleDeleteGroups(s *Server, _ context.Context, r *request, req *kmsg.DeleteGroupsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	for _, id := range req.Groups {
		err := s.refused(r, kmsg.ACLOperationDelete, kmsg.ACLResourceTypeGroup, id)
		switch {
		case err != nil:
		case s.Shares.Has(id):
			err = s.Shares.Delete(id)
		default:
			err = s.Groups.Delete(id)
		}
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode, g.ErrorMessage = id, coordinatorCode(err), message(err)
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}
