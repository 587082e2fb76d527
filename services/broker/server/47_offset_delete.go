package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// OffsetDelete: takes committed offsets back, of topics that no member of the
// group subscribes to (KIP-496).
var offsetDeleteAPI = api{key: kmsg.OffsetDelete, min: 0, max: 0, handle: typed(handleOffsetDelete)}

func handleOffsetDelete(s *Server, _ context.Context, r *request, req *kmsg.OffsetDeleteRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	err := s.refused(r, kmsg.ACLOperationDelete, kmsg.ACLResourceTypeGroup, req.Group)
	var used func(string) bool
	if err == nil {
		used, err = s.Groups.MayDelete(req.Group)
	}
	if err != nil {
		resp.ErrorCode = coordinatorCode(err)
		return resp
	}
	var gone []meta.Offset
	for _, rt := range req.Topics {
		t, err := s.groupTopic(r, kmsg.ACLOperationRead, rt.Topic, meta.ID{}, false)
		if err == nil && used(rt.Topic) {
			err = kerr.GroupSubscribedToTopic
		}
		st := kmsg.OffsetDeleteResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.OffsetDeleteResponseTopicPartition{Partition: rp.Partition, ErrorCode: coordinatorCode(err)}
			switch {
			case err != nil:
			case rp.Partition < 0 || int(rp.Partition) >= len(t.Partitions):
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			default:
				gone = append(gone, meta.Offset{Topic: rt.Topic, Partition: rp.Partition})
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if len(gone) == 0 {
		return resp
	}
	if err := s.Meta.DeleteOffsets(req.Group, gone); err != nil {
		s.Log.Error("delete offsets", "group", req.Group, "err", err)
		resp.ErrorCode, resp.Topics = coordinatorCode(err), nil
	}
	return resp
}
