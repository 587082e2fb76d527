package server

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/share"
)

// ListGroups: all groups that the client may describe, those with commits and
// no members too. By state from version 4, by type (classic, consumer,
// share) from 5.
var listGroupsAPI = api{key: kmsg.ListGroups, min: 0, max: 5, handle: typed(handleListGroups)}

func handleListGroups(s *Server, _ context.Context, r *request, req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListGroupsResponse)
	all := s.allowedCluster(r, kmsg.ACLOperationDescribe)
	groups := s.Groups.List()
	for _, i := range s.Shares.List() {
		groups = append(groups, group.Info{ID: i.ID, Type: share.Type, ProtocolType: share.Type, State: group.State(i.State)})
	}
	for _, i := range groups {
		if !chosen(req.StatesFilter, string(i.State)) || !chosen(req.TypesFilter, i.Type) {
			continue
		}
		if !all && !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeGroup, i.ID) {
			continue
		}
		g := kmsg.NewListGroupsResponseGroup()
		g.Group, g.ProtocolType, g.GroupState, g.GroupType = i.ID, i.ProtocolType, string(i.State), i.Type
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// chosen reports whether a filter lets v through; an empty one lets all.
func chosen(filter []string, v string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, v) })
}
