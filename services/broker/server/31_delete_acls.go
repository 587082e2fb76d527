package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// DeleteAcls: removes the access rules that match filters; answered when that
// is durable and in force.
//
// Versions 1 to 3.
var deleteACLsAPI = api{key: kmsg.DeleteACLs, min: 1, max: 3, handle: typed(handleDeleteACLs)}

func handleDeleteACLs(s *Server, _ context.Context, r *request, req *kmsg.DeleteACLsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteACLsResponse)
	err := s.aclsOff()
	if err == nil {
		err = s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName)
	}
	for _, rf := range req.Filters {
		f := aclFilter{
			kind: rf.ResourceType, name: rf.ResourceName, pattern: rf.ResourcePatternType,
			principal: rf.Principal, host: rf.Host, op: rf.Operation, permission: rf.PermissionType,
		}
		out := kmsg.NewDeleteACLsResponseResult()
		bad := err
		if bad == nil {
			bad = f.check()
		}
		var gone []meta.ACL
		if bad == nil {
			gone = s.matching(f)
			bad = s.alterACLs(gone, s.Meta.DeleteACLs)
		}
		if bad != nil {
			out.ErrorCode, out.ErrorMessage = code(bad), message(bad)
			gone = nil
		}
		for _, a := range gone {
			m := kmsg.NewDeleteACLsResponseResultMatchingACL()
			m.ResourceType, m.ResourceName = kmsg.ACLResourceType(a.Type), a.Name
			m.ResourcePatternType, m.Principal, m.Host = kmsg.ACLResourcePatternType(a.Pattern), a.Principal, a.Host
			m.Operation, m.PermissionType = kmsg.ACLOperation(a.Operation), kmsg.ACLPermissionType(a.Permission)
			out.MatchingACLs = append(out.MatchingACLs, m)
		}
		resp.Results = append(resp.Results, out)
	}
	return resp
}
