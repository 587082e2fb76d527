package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
)

// OffsetForLeaderEpoch: where a leader epoch ends, by which a consumer finds
// out whether what it has read is still in the log (KIP-320).
//
// librdkafka speaks version 2 at most.
var offsetForLeaderEpochAPI = api{key: kmsg.OffsetForLeaderEpoch, min: 2, max: 4, handle: typed(handleOffsetForLeaderEpoch)}

func handleOffsetForLeaderEpoch(s *Server, _ context.Context, r *request, req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		refused := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, rt.Topic)
		st := kmsg.OffsetForLeaderEpochResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			sp.Partition, sp.LeaderEpoch, sp.EndOffset = rp.Partition, -1, -1
			log, err := (*store.Log)(nil), refused
			if err == nil {
				log, err = logOf(t, rp.Partition)
			}
			if err == nil {
				err = checkEpoch(log, rp.CurrentLeaderEpoch)
			}
			if err == nil {
				sp.LeaderEpoch, sp.EndOffset = log.EpochEnd(rp.LeaderEpoch)
			}
			sp.ErrorCode = code(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}
