package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// DeleteTopics: answered when the topics are durably gone.
//
// Versions 1 to 6; by id from 6.
var deleteTopicsAPI = api{key: kmsg.DeleteTopics, min: 1, max: 6, handle: typed(handleDeleteTopics)}

func handleDeleteTopics(s *Server, _ context.Context, _ *request, req *kmsg.DeleteTopicsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	if req.Version < 6 {
		for _, name := range req.TopicNames {
			resp.Topics = append(resp.Topics, s.deleteTopic(kmsg.DeleteTopicsRequestTopic{Topic: &name}))
		}
		return resp
	}
	for _, rt := range req.Topics {
		resp.Topics = append(resp.Topics, s.deleteTopic(rt))
	}
	return resp
}

func (s *Server) deleteTopic(rt kmsg.DeleteTopicsRequestTopic) kmsg.DeleteTopicsResponseTopic {
	out := kmsg.NewDeleteTopicsResponseTopic()
	out.Topic, out.TopicID = rt.Topic, rt.TopicID
	if rt.Topic == nil {
		t := s.Catalog.ByID(rt.TopicID)
		if t == nil {
			out.ErrorCode = kerr.UnknownTopicID.Code
			return out
		}
		out.Topic = &t.Name
	} else if rt.TopicID != (meta.ID{}) {
		out.ErrorCode = kerr.InvalidRequest.Code
		return out
	}
	err := s.Catalog.Delete(*out.Topic)
	out.ErrorCode, out.ErrorMessage = code(err), message(err)
	return out
}
