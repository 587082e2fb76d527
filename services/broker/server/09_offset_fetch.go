package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// OffsetFetch: what a consumer group has committed.
//
// Versions 1 to 9; several groups at once from 8 on. A group or partition
// without a commit has offset -1 and no error, as in Kafka.
var offsetFetchAPI = api{key: kmsg.OffsetFetch, min: 1, max: 9, handle: typed(handleOffsetFetch)}

func handleOffsetFetch(s *Server, _ context.Context, _ *request, req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version >= 8 {
		for _, g := range req.Groups {
			resp.Groups = append(resp.Groups, s.fetchGroup(g))
		}
		return resp
	}
	g := kmsg.OffsetFetchRequestGroup{Group: req.Group}
	if req.Topics != nil { // none asked for is not the same as all
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
	}
	for _, t := range s.fetchGroup(g).Topics {
		st := kmsg.OffsetFetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			st.Partitions = append(st.Partitions, kmsg.OffsetFetchResponseTopicPartition(p))
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// fetchGroup answers for one group; nil topics means all.
func (s *Server) fetchGroup(g kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	out := kmsg.OffsetFetchResponseGroup{Group: g.Group}
	if g.Topics == nil {
		for _, o := range s.Meta.Offsets(g.Group) {
			if n := len(out.Topics); n == 0 || out.Topics[n-1].Topic != o.Topic {
				out.Topics = append(out.Topics, kmsg.OffsetFetchResponseGroupTopic{Topic: o.Topic})
			}
			last := &out.Topics[len(out.Topics)-1]
			last.Partitions = append(last.Partitions, committed(o))
		}
		return out
	}
	for _, t := range g.Topics {
		st := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			o, ok := s.Meta.Offset(g.Group, t.Topic, p)
			if !ok {
				o = meta.Offset{Partition: p, Offset: -1, LeaderEpoch: -1}
			}
			st.Partitions = append(st.Partitions, committed(o))
		}
		out.Topics = append(out.Topics, st)
	}
	return out
}

func committed(o meta.Offset) kmsg.OffsetFetchResponseGroupTopicPartition {
	return kmsg.OffsetFetchResponseGroupTopicPartition{
		Partition: o.Partition, Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: &o.Metadata,
	}
}
