package server

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
)

// ListGroups: all groups, those with commits and no members too.
//
// Versions 0 to 5; by state from 4, by type from 5 (all are classic).
var listGroupsAPI = api{key: kmsg.ListGroups, min: 0, max: 5, handle: typed(handleListGroups)}

func handleListGroups(s *Server, _ context.Context, _ *request, req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
	infos := s.Groups.List()
	for _, id := range s.Meta.Groups() {
		if !slices.ContainsFunc(infos, func(i group.Info) bool { return i.ID == id }) {
			infos = append(infos, s.groupInfo(id))
		}
	}
	for _, i := range infos {
		if !chosen(req.StatesFilter, string(i.State)) || !chosen(req.TypesFilter, "classic") {
			continue
		}
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.ProtocolType, g.GroupState, g.GroupType = i.ID, i.ProtocolType, string(i.State), "classic"
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// chosen reports whether a filter lets v through; an empty one lets all.
func chosen(filter []string, v string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, v) })
}
