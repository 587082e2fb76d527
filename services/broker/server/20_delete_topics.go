package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// DeleteTopics: answered when the topics are durably gone.
//
// By name, and by id from version 6.
var deleteTopicsAPI = api{key: kmsg.DeleteTopics, min: 1, max: 6, handle: typed(handleDeleteTopics)}

func handleDeleteTopics(s *Server, _ context.Context, r *request, req *kmsg.DeleteTopicsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	if req.Version < 6 {
		for _, name := range req.TopicNames {
			req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
		}
	}
	resp.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(req.Topics))
	var names []string
	var at []int
	for i, rt := range req.Topics {
		out := &resp.Topics[i]
		out.Topic, out.TopicID = rt.Topic, rt.TopicID
		if err := s.mayDelete(r, out); err != nil {
			out.ErrorCode, out.ErrorMessage = code(err), message(err)
			continue
		}
		names, at = append(names, *out.Topic), append(at, i)
	}
	for i, err := range s.Catalog.DeleteAll(names) {
		out := &resp.Topics[at[i]]
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
	}
	return resp
}

// mayDelete finds the name of a topic given by id, which only those who may
// describe the topic are told, and says whether the client may delete it.
func (s *Server) mayDelete(r *request, out *kmsg.DeleteTopicsResponseTopic) error {
	if out.Topic != nil {
		if out.TopicID != (meta.ID{}) {
			return kerr.InvalidRequest
		}
		t := s.Catalog.Get(*out.Topic)
		if t != nil && s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name) {
			out.TopicID = t.ID
		}
		return s.refused(r, kmsg.ACLOperationDelete, kmsg.ACLResourceTypeTopic, *out.Topic)
	}
	t := s.Catalog.ByID(out.TopicID)
	if t == nil {
		return kerr.UnknownTopicID
	}
	if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name); err != nil {
		return err
	}
	out.Topic = &t.Name
	return s.refused(r, kmsg.ACLOperationDelete, kmsg.ACLResourceTypeTopic, t.Name)
}
