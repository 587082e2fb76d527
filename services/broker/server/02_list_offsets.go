package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
)

// ListOffsets: the offset of a timestamp, of the log's start or of its end.
//
// Versions 1 to 6. The end is the high watermark for every isolation level.
// Within a compressed batch the batch's first record is returned. Version 7
// adds the record with the largest timestamp, which is not served yet.
var listOffsetsAPI = api{key: kmsg.ListOffsets, min: 1, max: 6, handle: typed(handleListOffsets)}

// Timestamps with a meaning of their own.
const (
	latest   = -1
	earliest = -2
)

func handleListOffsets(s *Server, _ context.Context, _ *request, req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		st := kmsg.ListOffsetsResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.NewListOffsetsResponseTopicPartition()
			sp.Partition, sp.Offset, sp.Timestamp = rp.Partition, -1, -1
			log, err := logOf(t, rp.Partition)
			if err == nil {
				err = checkEpoch(log, rp.CurrentLeaderEpoch)
			}
			if err == nil {
				err = listOffset(log, rp.Timestamp, &sp)
			}
			sp.ErrorCode = code(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func listOffset(log *store.Log, ms int64, out *kmsg.ListOffsetsResponseTopicPartition) error {
	start, hw := log.Bounds()
	out.LeaderEpoch = log.Epoch()
	switch ms {
	case latest:
		out.Offset = hw
		return nil
	case earliest:
		out.Offset = start
		return nil
	}
	found, ok, err := log.OffsetForTime(ms)
	if err == nil && ok {
		out.Offset, out.Timestamp, out.LeaderEpoch = found.Offset, found.Ms, found.Epoch
	}
	return err
}
