package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
)

// DescribeShareGroupOffsets: where share groups begin in partitions, and how
// many offsets from there on they are not done with (KIP-1226). A partition
// that the group never had has offset -1 and no error.
var describeShareGroupOffsetsAPI = api{key: kmsg.DescribeShareGroupOffsets, min: 0, max: 1, handle: typed(handleDescribeShareGroupOffsets)}

func handleDescribeShareGroupOffsets(s *Server, _ context.Context, r *request, req *kmsg.DescribeShareGroupOffsetsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeShareGroupOffsetsResponse)
	for _, rg := range once(req.Groups, func(g *kmsg.DescribeShareGroupOffsetsRequestGroup) string { return g.GroupID }) {
		g := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		g.GroupID = rg.GroupID
		if err := s.refusedShares(r, kmsg.ACLOperationDescribe, rg.GroupID); err != nil {
			g.ErrorCode, g.ErrorMessage = code(err), message(err)
		} else if rg.Topics == nil {
			g.Topics = s.allShareOffsets(r, rg.GroupID)
		} else {
			g.Topics = s.shareOffsets(r, rg)
		}
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// shareOffsets are those that a request names.
func (s *Server) shareOffsets(r *request, rg kmsg.DescribeShareGroupOffsetsRequestGroup) (out []kmsg.DescribeShareGroupOffsetsResponseGroupTopic) {
	told := toldOf{}
	for _, rt := range rg.Topics {
		st := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
		st.Topic = rt.Topic
		t, err := s.groupTopic(r, kmsg.ACLOperationDescribe, rt.Topic, meta.ID{}, false)
		if t != nil && err == nil {
			st.TopicID = t.ID
		}
		for _, num := range rt.Partitions {
			if !told.first(rt.Topic, num) {
				continue
			}
			sp := s.shareOffset(rg.GroupID, share.Partition{Topic: st.TopicID, Num: num})
			if err == kerr.TopicAuthorizationFailed {
				sp.ErrorCode, sp.ErrorMessage = code(err), message(err)
			}
			st.Partitions = append(st.Partitions, sp)
		}
		out = append(out, st)
	}
	return out
}

// allShareOffsets are those of all topics that the client may know of.
func (s *Server) allShareOffsets(r *request, group string) (out []kmsg.DescribeShareGroupOffsetsResponseGroupTopic) {
	for _, key := range s.Shares.Partitions(group) {
		t := s.Catalog.ByID(key.Topic)
		if t == nil || !s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name) {
			continue
		}
		if n := len(out); n == 0 || out[n-1].TopicID != t.ID {
			st := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
			st.Topic, st.TopicID = t.Name, t.ID
			out = append(out, st)
		}
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, s.shareOffset(group, key))
	}
	return out
}

func (s *Server) shareOffset(group string, key share.Partition) kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition {
	sp := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
	sp.Partition, sp.StartOffset, sp.Lag = key.Num, -1, -1
	log, err := logOf(s.Catalog.ByID(key.Topic), key.Num)
	if err != nil {
		return sp
	}
	if start, lag, ok := s.Shares.Offset(group, key, log); ok {
		sp.StartOffset, sp.Lag, sp.LeaderEpoch = start, lag, log.Epoch()
	}
	return sp
}
