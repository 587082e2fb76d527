package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeUserScramCredentials: which users have which SCRAM mechanisms. Keys
// are told to nobody.
//
// Version 0 (KIP-554). Users of a listener's file are not listed.
var describeUserScramAPI = api{key: kmsg.DescribeUserSCRAMCredentials, min: 0, max: 0, handle: typed(handleDescribeUserScram)}

func handleDescribeUserScram(s *Server, _ context.Context, r *request, req *kmsg.DescribeUserSCRAMCredentialsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	infos := map[string][]kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo{}
	var names []string
	for _, c := range s.Meta.Scrams() {
		if infos[c.User] == nil {
			names = append(names, c.User)
		}
		i := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
		i.Mechanism, i.Iterations = c.Mechanism, c.Iterations
		infos[c.User] = append(infos[c.User], i)
	}
	asked := map[string]int{}
	if len(req.Users) > 0 {
		names = nil
		for _, u := range req.Users {
			if asked[u.Name]++; !slices.Contains(names, u.Name) {
				names = append(names, u.Name)
			}
		}
	}
	for _, name := range names {
		out := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		out.User, out.CredentialInfos = name, infos[name]
		var err error
		switch {
		case asked[name] > 1:
			err = fmt.Errorf("%w: user %q is asked for twice", kerr.DuplicateResource, name)
			out.CredentialInfos = nil
		case infos[name] == nil:
			err = fmt.Errorf("%w: user %q has no SCRAM credential", kerr.ResourceNotFound, name)
		}
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		resp.Results = append(resp.Results, out)
	}
	return resp
}
