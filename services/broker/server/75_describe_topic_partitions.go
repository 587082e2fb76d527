package server

import (
	"cmp"
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
)

// DescribeTopicPartitions: topics with their partitions, some at a time
// (KIP-966). The Java admin client asks it before Metadata.
//
// There are no eligible leader replicas: the only replica leads.
var describeTopicPartitionsAPI = api{key: kmsg.DescribeTopicPartitions, min: 0, max: 0, handle: typed(handleDescribeTopicPartitions)}

// maxPartitionsTold is how many partitions one answer has at most, as in
// Kafka.
const maxPartitionsTold = 2000

func handleDescribeTopicPartitions(s *Server, _ context.Context, r *request, req *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	left := int(min(req.ResponsePartitionLimit, maxPartitionsTold))
	if left < 1 {
		left = maxPartitionsTold
	}
	first, from := "", int32(0)
	if req.Cursor != nil {
		first, from = req.Cursor.Topic, max(0, req.Cursor.Partition)
	}
	for _, name := range s.namesFrom(r, req, first) {
		if name != first {
			from = 0
		}
		out, more := s.topicPartitions(r, name, int(from), left)
		if left == 0 || more >= 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: int32(max(more, int(from)))}
		}
		if left > 0 {
			resp.Topics = append(resp.Topics, out)
		}
		if left -= len(out.Partitions); resp.NextCursor != nil {
			break
		}
	}
	return resp
}

// namesFrom are the names of the topics asked for, sorted, from first on.
// Those that may not be described are left out when all are asked for.
func (s *Server) namesFrom(r *request, req *kmsg.DescribeTopicPartitionsRequest, first string) []string {
	var names []string
	for _, rt := range req.Topics {
		names = append(names, rt.Topic)
	}
	if len(req.Topics) == 0 {
		for _, t := range s.Catalog.All() {
			if s.allowed(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	at, _ := slices.BinarySearchFunc(names, first, cmp.Compare)
	return names[at:]
}

// topicPartitions describes up to limit partitions of a topic; more is the
// first that did not fit, or -1.
func (s *Server) topicPartitions(r *request, name string, from, limit int) (out kmsg.DescribeTopicPartitionsResponseTopic, more int) {
	out = kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic = &name
	err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeTopic, name)
	if err == nil {
		err = catalog.CheckName(name)
	}
	t := s.Catalog.Get(name)
	if err == nil && t == nil {
		err = kerr.UnknownTopicOrPartition
	}
	if err != nil {
		out.ErrorCode = code(err)
		return out, -1
	}
	out.TopicID, out.IsInternal = t.ID, internal(name)
	out.AuthorizedOperations = s.authorizedOperations(r, kmsg.ACLResourceTypeTopic, name)
	end := min(len(t.Partitions), from+limit)
	for i := from; i < end; i++ {
		p := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		p.Partition, p.LeaderID, p.Replicas, p.ISR = int32(i), NodeID, onlyReplica, onlyReplica
		// Nullable, but Java's Admin dereferences them.
		p.EligibleLeaderReplicas, p.LastKnownELR = []int32{}, []int32{}
		if log := t.Partitions[i].Log; log == nil {
			p.ErrorCode, p.LeaderID, p.ISR, p.OfflineReplicas = kerr.LeaderNotAvailable.Code, -1, nil, onlyReplica
		} else {
			p.LeaderEpoch = log.Epoch()
		}
		out.Partitions = append(out.Partitions, p)
	}
	if end < len(t.Partitions) {
		return out, end
	}
	return out, -1
}
