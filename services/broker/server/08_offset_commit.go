package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
)

// OffsetCommit: where a consumer group goes on. Answered when it is durable.
//
// Versions 2 to 9. Without member and generation anybody may commit while the
// group has no members, as admin tools and MirrorMaker do. Commits never
// expire: a site may be switched off for a season.
var offsetCommitAPI = api{key: kmsg.OffsetCommit, min: 2, max: 9, handle: typed(handleOffsetCommit)}

// maxCommitMetadata is Kafka's offset.metadata.max.bytes.
const maxCommitMetadata = 4096

func handleOffsetCommit(s *Server, _ context.Context, _ *request, req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	may := s.Groups.MayCommit(group.Member{
		Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation,
	})
	now := time.Now().UnixMilli()
	var offsets []meta.Offset
	for _, rt := range req.Topics {
		t := s.Catalog.Get(rt.Topic)
		st := kmsg.OffsetCommitResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.OffsetCommitResponseTopicPartition{Partition: rp.Partition}
			switch {
			case may != nil:
				sp.ErrorCode = coordinatorCode(may)
			case t == nil || rp.Partition < 0 || int(rp.Partition) >= len(t.Partitions):
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case len(deref(rp.Metadata)) > maxCommitMetadata:
				sp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
			default:
				offsets = append(offsets, meta.Offset{
					Topic: rt.Topic, Partition: rp.Partition, Offset: rp.Offset,
					LeaderEpoch: rp.LeaderEpoch, Metadata: deref(rp.Metadata), CommitMs: now,
				})
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if len(offsets) == 0 {
		return resp
	}
	if err := s.Meta.Commit(req.Group, offsets); err != nil {
		s.Log.Error("commit offsets", "group", req.Group, "err", err)
		failCommits(resp, coordinatorCode(err))
	}
	return resp
}

func failCommits(resp *kmsg.OffsetCommitResponse, code int16) {
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = code
			}
		}
	}
}
