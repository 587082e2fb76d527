package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// CreatePartitions: raises a topic's number of partitions.
//
// Versions 0 to 3.
var createPartitionsAPI = api{key: kmsg.CreatePartitions, min: 0, max: 3, handle: typed(handleCreatePartitions)}

func handleCreatePartitions(s *Server, _ context.Context, _ *request, req *kmsg.CreatePartitionsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	for _, rt := range req.Topics {
		err := s.grow(rt.Topic, rt.Count, req.ValidateOnly)
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic, out.ErrorCode, out.ErrorMessage = rt.Topic, code(err), message(err)
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func (s *Server) grow(name string, count int32, validateOnly bool) error {
	if !validateOnly {
		return s.Catalog.Grow(name, count)
	}
	t := s.Catalog.Get(name)
	if t == nil {
		return fmt.Errorf("%w: %s", catalog.ErrUnknown, name)
	}
	return catalog.CheckGrow(t, count)
}
