package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
)

// DescribeProducers: the idempotent and transactional producers that a
// partition remembers, to find one that hangs (KIP-664).
//
// Producers idle for a day are forgotten.
var describeProducersAPI = api{key: kmsg.DescribeProducers, min: 0, max: 0, handle: typed(handleDescribeProducers)}

func handleDescribeProducers(s *Server, _ context.Context, r *request, req *kmsg.DescribeProducersRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
	told := toldOf{}
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		refused := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeTopic, rt.Topic)
		st := kmsg.NewDescribeProducersResponseTopic()
		st.Topic = rt.Topic
		for _, part := range rt.Partitions {
			if !told.first(rt.Topic, part) {
				continue
			}
			sp := kmsg.NewDescribeProducersResponseTopicPartition()
			sp.Partition = part
			log, err := (*store.Log)(nil), refused
			if err == nil {
				log, err = logOf(t, part)
			}
			if err == nil {
				sp.ActiveProducers = producersOf(log)
			}
			sp.ErrorCode, sp.ErrorMessage = code(err), message(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func producersOf(log *store.Log) []kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	var out []kmsg.DescribeProducersResponseTopicPartitionActiveProducer
	for _, p := range log.Producers() {
		ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		ap.ProducerID, ap.ProducerEpoch, ap.LastSequence = p.ID, int32(p.Epoch), p.LastSequence
		ap.LastTimestamp, ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = p.LastMs, p.CoordinatorEpoch, p.TxnStart
		out = append(out, ap)
	}
	return out
}
