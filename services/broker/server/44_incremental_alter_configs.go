package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs: changes some of what was set for a topic or the
// broker (KIP-339); answered when it is durable and in force.
//
// The changes of one resource are made together or not at all.
var incrementalAlterConfigsAPI = api{key: kmsg.IncrementalAlterConfigs, min: 0, max: 1, handle: typed(handleIncrementalAlterConfigs)}

func handleIncrementalAlterConfigs(s *Server, _ context.Context, r *request, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	all := make([]alteration, len(req.Resources))
	for i, rr := range req.Resources {
		all[i] = alteration{kind: rr.ResourceType, name: rr.ResourceName}
		for _, c := range rr.Configs {
			all[i].changes = append(all[i].changes, change{c.Name, c.Op, c.Value})
		}
	}
	for i, err := range s.alterConfigs(r, req.ValidateOnly, all) {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = all[i].kind, all[i].name
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}
