package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// OffsetFetch: what a consumer group has committed.
//
// Several groups at once from version 8 on, member epochs of the consumer
// protocol from 9, topics by id from 10. A group or partition without a commit
// has offset -1 and no error. A client that asks for stable offsets (KIP-447)
// is told to try again for partitions that an open transaction has committed.
var offsetFetchAPI = api{key: kmsg.OffsetFetch, min: 1, max: 10, handle: typed(handleOffsetFetch)}

// First versions of OffsetFetch that ask for several groups, and by topic id.
const (
	fetchGroups = 8
	fetchIDs    = 10
)

func handleOffsetFetch(s *Server, _ context.Context, r *request, req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version >= fetchGroups {
		for _, g := range once(req.Groups, func(g *kmsg.OffsetFetchRequestGroup) string { return g.Group }) {
			resp.Groups = append(resp.Groups, s.fetchGroup(r, req, g))
		}
		return resp
	}
	g := kmsg.NewOffsetFetchRequestGroup()
	if g.Group = req.Group; req.Topics != nil { // none asked for is not the same as all
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
	}
	got := s.fetchGroup(r, req, g)
	resp.ErrorCode = got.ErrorCode
	if got.ErrorCode != 0 && req.Version < 2 { // told in each partition
		got.Topics = failedFetch(g.Topics, got.ErrorCode)
	}
	for _, t := range got.Topics {
		st := kmsg.OffsetFetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			st.Partitions = append(st.Partitions, kmsg.OffsetFetchResponseTopicPartition(p))
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

func failedFetch(topics []kmsg.OffsetFetchRequestGroupTopic, code int16) (out []kmsg.OffsetFetchResponseGroupTopic) {
	for _, t := range topics {
		st := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			st.Partitions = append(st.Partitions, uncommitted(p, code))
		}
		out = append(out, st)
	}
	return out
}

// fetchGroup answers for one group; nil topics means all.
func (s *Server) fetchGroup(r *request, req *kmsg.OffsetFetchRequest, g kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	out := kmsg.OffsetFetchResponseGroup{Group: g.Group}
	err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeGroup, g.Group)
	if err == nil {
		err = s.Groups.MayFetch(g.Group, deref(g.MemberID), g.MemberEpoch)
	}
	if err != nil {
		out.ErrorCode = coordinatorCode(err)
		return out
	}
	if g.Topics == nil {
		out.Topics = s.fetchAll(r, req, g.Group)
		return out
	}
	told := toldOf{}
	for _, t := range g.Topics {
		name, code := t.Topic, int16(0)
		if req.Version >= fetchIDs {
			if known := s.Catalog.ByID(t.TopicID); known == nil {
				code = kerr.UnknownTopicID.Code
			} else {
				name = known.Name
			}
		}
		if code == 0 && !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, name) {
			code = kerr.TopicAuthorizationFailed.Code
		}
		st := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic, TopicID: t.TopicID}
		for _, p := range t.Partitions {
			if code == 0 && !told.first(name, p) {
				continue
			}
			sp := uncommitted(p, code)
			if o, ok := s.Meta.Offset(g.Group, name, p); code == 0 && ok {
				sp = committed(o)
			}
			if code == 0 && req.RequireStable && s.unstable(g.Group, name, p) {
				sp = uncommitted(p, kerr.UnstableOffsetCommit.Code)
			}
			st.Partitions = append(st.Partitions, sp)
		}
		out.Topics = append(out.Topics, st)
	}
	return out
}

// fetchAll is all that a group has committed, of topics that the client may
// know of.
func (s *Server) fetchAll(r *request, req *kmsg.OffsetFetchRequest, group string) (out []kmsg.OffsetFetchResponseGroupTopic) {
	last, hidden := "", false
	for _, o := range s.Meta.Offsets(group) {
		if o.Topic != last {
			last, hidden = o.Topic, !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, o.Topic)
			t := s.Catalog.Get(o.Topic)
			hidden = hidden || t == nil && req.Version >= fetchIDs
			if !hidden {
				st := kmsg.OffsetFetchResponseGroupTopic{Topic: o.Topic}
				if t != nil {
					st.TopicID = t.ID
				}
				out = append(out, st)
			}
		}
		if hidden {
			continue
		}
		sp := committed(o)
		if req.RequireStable && s.unstable(group, o.Topic, o.Partition) {
			sp = uncommitted(o.Partition, kerr.UnstableOffsetCommit.Code)
		}
		st := &out[len(out)-1]
		st.Partitions = append(st.Partitions, sp)
	}
	return out
}

func (s *Server) unstable(group, topic string, part int32) bool {
	return s.Txns != nil && s.Txns.Pending(group, topic, part)
}

func committed(o meta.Offset) kmsg.OffsetFetchResponseGroupTopicPartition {
	return kmsg.OffsetFetchResponseGroupTopicPartition{
		Partition: o.Partition, Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: &o.Metadata,
	}
}

func uncommitted(part int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	none := ""
	return kmsg.OffsetFetchResponseGroupTopicPartition{Partition: part, Offset: -1, LeaderEpoch: -1, Metadata: &none, ErrorCode: code}
}
