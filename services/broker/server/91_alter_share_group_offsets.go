package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
)

// AlterShareGroupOffsets: makes a share group without members begin at other
// offsets, and forget what it knew of the records there; answered when that is
// durable. A group that is not there is made.
var alterShareGroupOffsetsAPI = api{key: kmsg.AlterShareGroupOffsets, min: 0, max: 0, handle: typed(handleAlterShareGroupOffsets)}

func handleAlterShareGroupOffsets(s *Server, _ context.Context, r *request, req *kmsg.AlterShareGroupOffsetsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AlterShareGroupOffsetsResponse)
	if err := s.refusedShares(r, kmsg.ACLOperationRead, req.GroupID); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	var starts []share.Start
	for _, rt := range req.Topics {
		st := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		st.Topic = rt.Topic
		t, refused := s.groupTopic(r, kmsg.ACLOperationRead, rt.Topic, meta.ID{}, false)
		if refused == nil {
			st.TopicID = t.ID
		}
		for _, rp := range rt.Partitions {
			log, err := logOf(t, rp.Partition)
			switch {
			case refused != nil:
				err = refused
			case rp.StartOffset < 0:
				err = kerr.InvalidRequest
			}
			if err == nil {
				starts = append(starts, share.Start{Partition: share.Partition{Topic: t.ID, Num: rp.Partition}, Log: log, Offset: rp.StartOffset})
			}
			sp := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			sp.Partition, sp.ErrorCode, sp.ErrorMessage = rp.Partition, code(err), message(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if err := s.Shares.Put(req.GroupID, starts, false); err != nil {
		resp.ErrorCode, resp.ErrorMessage, resp.Topics = coordinatorCode(err), message(err), nil
	}
	return resp
}
