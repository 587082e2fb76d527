package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords: raises the start of a log; answered when the new start is
// durable. Streams purges repartition topics with it.
//
// An offset of -1 is the high watermark. Topics that are only compacted keep
// their records, as in Kafka.
var deleteRecordsAPI = api{key: kmsg.DeleteRecords, min: 0, max: 2, handle: typed(handleDeleteRecords)}

func handleDeleteRecords(s *Server, ctx context.Context, r *request, req *kmsg.DeleteRecordsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	for _, rt := range req.Topics {
		refused := s.refused(r, kmsg.ACLOperationDelete, kmsg.ACLResourceTypeTopic, rt.Topic)
		st := kmsg.DeleteRecordsResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.DeleteRecordsResponseTopicPartition{Partition: rp.Partition, LowWatermark: -1}
			start, err := int64(-1), refused
			if err == nil {
				start, err = s.deleteRecords(ctx, rt.Topic, rp)
			}
			sp.LowWatermark, sp.ErrorCode = start, code(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// deleteRecords returns the new start of the log.
func (s *Server) deleteRecords(ctx context.Context, topic string, rp kmsg.DeleteRecordsRequestTopicPartition) (int64, error) {
	t := s.Catalog.Get(topic)
	log, err := logOf(t, rp.Partition)
	if err != nil {
		return -1, err
	}
	if !t.Settings().Compaction.Delete {
		return -1, fmt.Errorf("%w: cleanup.policy of %s is %s", kerr.PolicyViolation, topic, t.Value("cleanup.policy"))
	}
	settle(ctx, log)
	offset := rp.Offset
	start, hw := log.Bounds()
	switch {
	case offset == -1:
		offset = hw
	case offset < 0 || offset > hw:
		return -1, kerr.OffsetOutOfRange
	}
	if offset > start {
		if err := log.Trim(offset); err != nil {
			return -1, err
		}
	}
	start, _ = log.Bounds()
	return start, nil
}
