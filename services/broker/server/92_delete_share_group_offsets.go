package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
)

// DeleteShareGroupOffsets: makes a share group without members forget topics;
// answered when that is durable.
var deleteShareGroupOffsetsAPI = api{key: kmsg.DeleteShareGroupOffsets, min: 0, max: 0, handle: typed(handleDeleteShareGroupOffsets)}

func handleDeleteShareGroupOffsets(s *Server, _ context.Context, r *request, req *kmsg.DeleteShareGroupOffsetsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteShareGroupOffsetsResponse)
	if err := s.refusedShares(r, kmsg.ACLOperationDelete, req.GroupID); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	gone := map[meta.ID]bool{}
	for _, rt := range req.Topics {
		st := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		st.Topic = rt.Topic
		t, err := s.groupTopic(r, kmsg.ACLOperationRead, rt.Topic, meta.ID{}, false)
		if err == nil {
			st.TopicID, gone[t.ID] = t.ID, true
		}
		st.ErrorCode, st.ErrorMessage = code(err), message(err)
		resp.Topics = append(resp.Topics, st)
	}
	var starts []share.Start
	for _, key := range s.Shares.Partitions(req.GroupID) {
		if gone[key.Topic] {
			starts = append(starts, share.Start{Partition: key, Offset: -1})
		}
	}
	if err := s.Shares.Put(req.GroupID, starts, true); err != nil {
		resp.ErrorCode, resp.ErrorMessage, resp.Topics = coordinatorCode(err), message(err), nil
	}
	return resp
}
