package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// DeleteGroups: forgets what groups without members have committed.
//
// Versions 0 to 2.
var deleteGroupsAPI = api{key: kmsg.DeleteGroups, min: 0, max: 2, handle: typed(handleDeleteGroups)}

func handleDeleteGroups(s *Server, _ context.Context, _ *request, req *kmsg.DeleteGroupsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	for _, id := range req.Groups {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = id, coordinatorCode(s.deleteGroup(id))
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

func (s *Server) deleteGroup(id string) error {
	if s.groupInfo(id).State == group.Dead {
		return kerr.GroupIDNotFound
	}
	if err := s.Groups.Delete(id); err != nil {
		return err
	}
	return s.Meta.DeleteGroup(id)
}
