package server

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/store"
)

// ListOffsets: the offset of a timestamp, of the log's start or end, or of
// the record with the largest timestamp.
//
// Within a compressed batch the batch's first record stands for all. There is
// no tiered storage: the local start is the log's start, and what lies in
// remote storage is nothing (-1).
var listOffsetsAPI = api{key: kmsg.ListOffsets, min: 1, max: 11, handle: typed(handleListOffsets)}

// Timestamps with a meaning of their own.
const (
	latest         = -1
	earliest       = -2
	maxTimestamp   = -3
	earliestLocal  = -4
	latestTiered   = -5
	pendingUpload  = -6
	readCommitted  = 1
	unknownOffset  = -1
	anyLeaderEpoch = -1
)

// specialSince are the versions that brought the special timestamps.
var specialSince = map[int64]int16{maxTimestamp: 7, earliestLocal: 8, latestTiered: 9, pendingUpload: 11}

func handleListOffsets(s *Server, ctx context.Context, r *request, req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	settle(ctx, s.endsAsked(r, req)...)
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		refused := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, rt.Topic)
		st := kmsg.ListOffsetsResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.NewListOffsetsResponseTopicPartition()
			sp.Partition, sp.Offset, sp.Timestamp = rp.Partition, unknownOffset, -1
			log, err := (*store.Log)(nil), refused
			if err == nil {
				log, err = logOf(t, rp.Partition)
			}
			if err == nil {
				err = checkEpoch(log, rp.CurrentLeaderEpoch)
			}
			if since := specialSince[rp.Timestamp]; err == nil && req.Version < since {
				err = fmt.Errorf("%w: timestamp %d is of version %d", kerr.UnsupportedVersion, rp.Timestamp, since)
			}
			if err == nil {
				err = s.listOffset(log, rp.Timestamp, req.IsolationLevel == readCommitted, &sp)
			}
			sp.ErrorCode = code(err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func (s *Server) listOffset(log *store.Log, ms int64, committed bool, out *kmsg.ListOffsetsResponseTopicPartition) error {
	start, stable, end := log.Bounds3()
	if committed {
		end = stable
	}
	switch ms {
	case latest:
		out.Offset, out.LeaderEpoch = end, log.Epoch()
		return nil
	case earliest, earliestLocal:
		out.Offset, out.LeaderEpoch = start, log.Epoch()
		return nil
	case latestTiered, pendingUpload:
		out.LeaderEpoch = anyLeaderEpoch
		return nil
	}
	find := func() (store.TimeOffset, bool, error) { return log.OffsetForTime(ms) }
	if ms == maxTimestamp {
		find = log.OffsetForMaxTimestamp
	}
	s.unpacks.begin() // one batch, that the time lies in
	found, ok, err := find()
	s.unpacks.end()
	if err == nil && ok && found.Offset < end {
		out.Offset, out.Timestamp, out.LeaderEpoch = found.Offset, found.Ms, found.Epoch
	}
	return err
}

// endsAsked are the logs whose ends the request depends on.
func (s *Server) endsAsked(r *request, req *kmsg.ListOffsetsRequest) (logs []*store.Log) {
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		if !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, rt.Topic) {
			continue
		}
		for _, rp := range rt.Partitions {
			if log, err := logOf(t, rp.Partition); err == nil && rp.Timestamp != earliest && rp.Timestamp != earliestLocal {
				logs = append(logs, log)
			}
		}
	}
	return logs
}
