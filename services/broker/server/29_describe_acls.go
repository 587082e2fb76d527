package server

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// DescribeAcls: the access rules that match a filter.
//
// Versions 1 to 3. Without an authorizer the answer is SECURITY_DISABLED, as
// Kafka's.
var describeACLsAPI = api{key: kmsg.DescribeACLs, min: 1, max: 3, handle: typed(handleDescribeACLs)}

func handleDescribeACLs(s *Server, _ context.Context, r *request, req *kmsg.DescribeACLsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
	f := aclFilter{
		kind: req.ResourceType, name: req.ResourceName, pattern: req.ResourcePatternType,
		principal: req.Principal, host: req.Host, op: req.Operation, permission: req.PermissionType,
	}
	err := s.aclsOff()
	if err == nil {
		err = s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeCluster, clusterName)
	}
	if err == nil {
		err = f.check()
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for _, a := range s.Meta.ACLs() { // sorted, so that those of a resource stand together
		if !f.matches(a) {
			continue
		}
		last := len(resp.Resources) - 1
		if last < 0 || !sameResource(resp.Resources[last], a) {
			resp.Resources = append(resp.Resources, kmsg.DescribeACLsResponseResource{
				ResourceType: kmsg.ACLResourceType(a.Type), ResourceName: a.Name, ResourcePatternType: kmsg.ACLResourcePatternType(a.Pattern),
			})
			last++
		}
		resp.Resources[last].ACLs = append(resp.Resources[last].ACLs, kmsg.DescribeACLsResponseResourceACL{
			Principal: a.Principal, Host: a.Host, Operation: kmsg.ACLOperation(a.Operation), PermissionType: kmsg.ACLPermissionType(a.Permission),
		})
	}
	return resp
}

func sameResource(r kmsg.DescribeACLsResponseResource, a meta.ACL) bool {
	return int8(r.ResourceType) == a.Type && r.ResourceName == a.Name && int8(r.ResourcePatternType) == a.Pattern
}

var errNoAuthorizer = kerr.SecurityDisabled

func (s *Server) aclsOff() error {
	if s.Authorizer == nil {
		return errNoAuthorizer
	}
	return nil
}

// aclFilter is what a client asks for; a nil text is any.
type aclFilter struct {
	kind            kmsg.ACLResourceType
	pattern         kmsg.ACLResourcePatternType
	op              kmsg.ACLOperation
	permission      kmsg.ACLPermissionType
	name            *string
	principal, host *string
}

func (f aclFilter) check() error {
	if f.kind == kmsg.ACLResourceTypeUnknown || f.op == kmsg.ACLOperationUnknown ||
		f.permission == kmsg.ACLPermissionTypeUnknown || f.pattern == kmsg.ACLResourcePatternTypeUnknown {
		return errors.Join(kerr.InvalidRequest, errors.New("the filter holds an unknown element"))
	}
	return nil
}

func (f aclFilter) matches(a meta.ACL) bool {
	return (f.kind == kmsg.ACLResourceTypeAny || int8(f.kind) == a.Type) &&
		(f.op == kmsg.ACLOperationAny || int8(f.op) == a.Operation) &&
		(f.permission == kmsg.ACLPermissionTypeAny || int8(f.permission) == a.Permission) &&
		(f.principal == nil || *f.principal == a.Principal) &&
		(f.host == nil || *f.host == a.Host) && f.matchesResource(a)
}

// matchesResource follows KIP-290: MATCH finds every rule that would count
// for the name, ANY every kind of pattern with this very name.
func (f aclFilter) matchesResource(a meta.ACL) bool {
	literal := int8(kmsg.ACLResourcePatternTypeLiteral)
	switch f.pattern {
	case kmsg.ACLResourcePatternTypeMatch:
		return f.name == nil || a.Pattern == literal && (a.Name == *f.name || a.Name == "*") ||
			a.Pattern != literal && strings.HasPrefix(*f.name, a.Name)
	case kmsg.ACLResourcePatternTypeAny:
		return f.name == nil || *f.name == a.Name
	}
	return int8(f.pattern) == a.Pattern && (f.name == nil || *f.name == a.Name)
}

// matching are the rules that a filter finds.
func (s *Server) matching(f aclFilter) []meta.ACL {
	return slices.DeleteFunc(s.Meta.ACLs(), func(a meta.ACL) bool { return !f.matches(a) })
}
