package server

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
)

// OffsetCommit: where a consumer group goes on. Answered when it is durable.
//
// Without member and generation anybody may commit while the group has no
// members, as admin tools and MirrorMaker do. Members of the consumer
// protocol need version 9; a commit of an earlier epoch is taken for
// partitions that the member has had since then (KIP-1251). Topics by id from
// version 10. Commits do not expire unless offsets.retention.minutes says so,
// whatever retention a request names: a site may be switched off for a season.
var offsetCommitAPI = api{key: kmsg.OffsetCommit, min: 2, max: 10, handle: typed(handleOffsetCommit)}

const (
	// maxCommitMetadata is Kafka's offset.metadata.max.bytes.
	maxCommitMetadata = 4096
	// commitEpochs and commitIDs are the first versions of OffsetCommit that
	// know of member epochs and of topic ids.
	commitEpochs = 9
	commitIDs    = 10
)

func handleOffsetCommit(s *Server, _ context.Context, r *request, req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	whole := s.refused(r, kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, req.Group)
	var each func(meta.ID, int32) error
	if whole == nil {
		each, whole = s.Groups.MayCommitEach(group.Commit{
			Member: group.Member{Group: req.Group, ID: req.MemberID, Instance: deref(req.InstanceID), Generation: req.Generation},
			Old:    req.Version < commitEpochs,
		})
	}
	now := time.Now().UnixMilli()
	var offsets []meta.Offset
	for _, rt := range req.Topics {
		t, refusal := s.groupTopic(r, kmsg.ACLOperationRead, rt.Topic, rt.TopicID, req.Version >= commitIDs)
		st := kmsg.OffsetCommitResponseTopic{Topic: rt.Topic, TopicID: rt.TopicID}
		for _, rp := range rt.Partitions {
			o := meta.Offset{Partition: rp.Partition, Offset: rp.Offset, LeaderEpoch: rp.LeaderEpoch, Metadata: deref(rp.Metadata), CommitMs: now}
			err := whole
			if err == nil {
				err = refusal
			}
			if err == nil {
				o.Topic = t.Name
				err = s.mayKeep(req.Group, t, o, each)
			}
			if err == nil {
				offsets = append(offsets, o)
			}
			st.Partitions = append(st.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: rp.Partition, ErrorCode: coordinatorCode(err)})
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

// groupTopic finds a topic that a group's offsets are about, by id or name,
// if the client may do op on it.
func (s *Server) groupTopic(r *request, op kmsg.ACLOperation, name string, id meta.ID, byID bool) (*catalog.Topic, error) {
	t := s.Catalog.Get(name)
	if byID {
		if t = s.Catalog.ByID(id); t == nil {
			return nil, kerr.UnknownTopicID
		}
		name = t.Name
	}
	if err := s.refused(r, op, kmsg.ACLResourceTypeTopic, name); err != nil {
		return nil, err
	}
	if t == nil {
		return nil, kerr.UnknownTopicOrPartition
	}
	return t, nil
}

// mayKeep says whether one offset may be committed, by a member for which
// each decides, if it is not nil.
func (s *Server) mayKeep(group string, t *catalog.Topic, o meta.Offset, each func(meta.ID, int32) error) error {
	switch {
	case o.Partition < 0 || int(o.Partition) >= len(t.Partitions):
		return kerr.UnknownTopicOrPartition
	case len(o.Metadata) > maxCommitMetadata:
		return kerr.OffsetMetadataTooLarge
	case each != nil && each(t.ID, o.Partition) != nil:
		return kerr.StaleMemberEpoch
	}
	if s.Meta.OffsetsFull() {
		if _, known := s.Meta.Offset(group, o.Topic, o.Partition); !known {
			s.Log.Warn("a commit is refused: committed offsets take too much memory; delete groups that are not used, or set offsets.retention.minutes", "group", group)
			return kerr.InvalidCommitOffsetSize
		}
	}
	return nil
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
