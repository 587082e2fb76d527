package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
)

// WriteTxnMarkers: ends a producer's transaction in single partitions, past
// the coordinator. Administrators abort transactions that hang with it
// (KIP-664). Answered when the markers are durable.
var writeTxnMarkersAPI = api{key: kmsg.WriteTxnMarkers, min: 1, max: 2, handle: typed(handleWriteTxnMarkers)}

func handleWriteTxnMarkers(s *Server, ctx context.Context, r *request, req *kmsg.WriteTxnMarkersRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.WriteTxnMarkersResponse)
	refusal := s.refused(r, kmsg.ACLOperationClusterAction, kmsg.ACLResourceTypeCluster, clusterName)
	if refusal != nil && s.allowedCluster(r, kmsg.ACLOperationAlter) {
		refusal = nil
	}
	var waits []func()
	for _, m := range req.Markers {
		sm := kmsg.WriteTxnMarkersResponseMarker{ProducerID: m.ProducerID}
		for _, rt := range m.Topics {
			st := kmsg.WriteTxnMarkersResponseMarkerTopic{Topic: rt.Topic, Partitions: make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition, len(rt.Partitions))}
			for i, part := range rt.Partitions {
				out := &st.Partitions[i]
				out.Partition = part
				log, a, err := s.writeMarker(m, rt.Topic, part, refusal)
				if err != nil {
					out.ErrorCode = code(err)
					continue
				}
				waits = append(waits, func() { out.ErrorCode = code(log.Wait(ctx, a.Next)) })
			}
			sm.Topics = append(sm.Topics, st)
		}
		resp.Markers = append(resp.Markers, sm)
	}
	for _, wait := range waits {
		wait()
	}
	return resp
}

func (s *Server) writeMarker(m kmsg.WriteTxnMarkersRequestMarker, topic string, part int32, refusal error) (*store.Log, store.Appended, error) {
	if refusal != nil {
		return nil, store.Appended{}, refusal
	}
	log, err := logOf(s.Catalog.Get(topic), part)
	if err != nil {
		return nil, store.Appended{}, err
	}
	if m.ProducerID < 0 || m.ProducerEpoch < 0 {
		return nil, store.Appended{}, kerr.InvalidRequest
	}
	// A later epoch than the coordinator's own would fence the coordinator.
	epoch := min(m.CoordinatorEpoch, s.Meta.Epoch())
	a, err := log.AppendMarker(m.ProducerID, m.ProducerEpoch, m.Committed, epoch)
	if err == nil {
		s.Log.Warn("a client ended a transaction in a partition", "topic", topic, "partition", part,
			"producer", m.ProducerID, "commit", m.Committed)
	}
	return log, a, err
}
