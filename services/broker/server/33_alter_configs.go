package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs: replaces what was set for a topic or the broker; answered
// when it is durable and in force.
//
// Clients of today send IncrementalAlterConfigs instead.
var alterConfigsAPI = api{key: kmsg.AlterConfigs, min: 0, max: 2, handle: typed(handleAlterConfigs)}

func handleAlterConfigs(s *Server, _ context.Context, r *request, req *kmsg.AlterConfigsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	all := make([]alteration, len(req.Resources))
	for i, rr := range req.Resources {
		all[i] = alteration{kind: rr.ResourceType, name: rr.ResourceName, replace: true}
		for _, c := range rr.Configs {
			all[i].changes = append(all[i].changes, change{c.Name, kmsg.IncrementalAlterConfigOpSet, c.Value})
		}
	}
	for i, err := range s.alterConfigs(r, req.ValidateOnly, all) {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = all[i].kind, all[i].name
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}
