package server

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/meta"
)

// CreateAcls: adds access rules; answered when they are durable and in force.
//
// Versions 1 to 3. Rules for delegation tokens are refused: there are none.
var createACLsAPI = api{key: kmsg.CreateACLs, min: 1, max: 3, handle: typed(handleCreateACLs)}

// maxACLs is how many access rules there may be.
const maxACLs = 10000

func handleCreateACLs(s *Server, _ context.Context, r *request, req *kmsg.CreateACLsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.CreateACLsResponse)
	resp.Results = make([]kmsg.CreateACLsResponseResult, len(req.Creations))
	fail := func(i int, err error) {
		resp.Results[i].ErrorCode, resp.Results[i].ErrorMessage = code(err), message(err)
	}
	err := s.aclsOff()
	if err == nil {
		err = s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName)
	}
	var good []meta.ACL
	for i, c := range req.Creations {
		a, bad := newACL(c)
		switch {
		case err != nil:
			fail(i, err)
		case bad != nil:
			fail(i, bad)
		default:
			good = append(good, a)
		}
	}
	if err != nil || len(good) == 0 {
		return resp
	}
	if have := len(s.Meta.ACLs()); have+len(good) > maxACLs {
		err = fmt.Errorf("%w: there are %d access rules, at most %d are kept", kerr.PolicyViolation, have, maxACLs)
	} else {
		err = s.alterACLs(good, s.Meta.PutACLs)
	}
	if err != nil {
		s.Log.Error("add access rules", "err", err)
		for i := range resp.Results {
			if resp.Results[i].ErrorCode == 0 {
				fail(i, err)
			}
		}
	}
	return resp
}

// alterACLs makes a change durable, and then puts it in force.
func (s *Server) alterACLs(acls []meta.ACL, change func([]meta.ACL) error) error {
	s.aclMu.Lock()
	defer s.aclMu.Unlock()
	defer func() { s.Authorizer.Set(s.Meta.ACLs()) }() // also of a part
	return change(acls)
}

// newACL checks one rule.
func newACL(c kmsg.CreateACLsRequestCreation) (meta.ACL, error) {
	bad := func(format string, a ...any) (meta.ACL, error) {
		return meta.ACL{}, fmt.Errorf("%w: %s", kerr.InvalidRequest, fmt.Sprintf(format, a...))
	}
	literal := c.ResourcePatternType == kmsg.ACLResourcePatternTypeLiteral
	kind, name, found := strings.Cut(c.Principal, ":")
	switch {
	case !auth.Grantable(c.ResourceType, c.Operation):
		return bad("%s cannot be done on a resource of type %s", c.Operation, c.ResourceType)
	case !literal && c.ResourcePatternType != kmsg.ACLResourcePatternTypePrefixed:
		return bad("pattern type %s; a rule is literal or prefixed", c.ResourcePatternType)
	case c.PermissionType != kmsg.ACLPermissionTypeAllow && c.PermissionType != kmsg.ACLPermissionTypeDeny:
		return bad("permission %s; a rule allows or denies", c.PermissionType)
	case c.ResourceName == "":
		return bad("the resource has no name; * is every one")
	case c.ResourceType == kmsg.ACLResourceTypeCluster && (c.ResourceName != clusterName || !literal):
		return bad("the only resource of type cluster is %s", clusterName)
	case !found || kind+":" != auth.UserPrefix || name == "":
		return bad("principal %q; want %sname", c.Principal, auth.UserPrefix)
	case !utf8.ValidString(c.ResourceName) || !utf8.ValidString(c.Principal): // the journal keeps text
		return bad("a name is not UTF-8")
	case len(c.ResourceName) > meta.MaxACLText || len(c.Principal) > meta.MaxACLText:
		return bad("a name is longer than %d bytes", meta.MaxACLText)
	}
	host := c.Host
	if host != "*" {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return bad("host %q; want * or an IP address", host)
		}
		host = ip.Unmap().String()
	}
	return meta.ACL{
		Type: int8(c.ResourceType), Name: c.ResourceName, Pattern: int8(c.ResourcePatternType),
		Principal: c.Principal, Host: host, Operation: int8(c.Operation), Permission: int8(c.PermissionType),
	}, nil
}
