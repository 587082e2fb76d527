package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum: a quorum of one voter, this broker, in whose journal the
// metadata is.
//
// For tools that show the state of the controllers. The journal's entries have
// no offsets: they are told as 0.
var describeQuorumAPI = api{key: kmsg.DescribeQuorum, min: 0, max: 2, handle: typed(handleDescribeQuorum)}

// metadataTopic is the topic of Kafka's metadata log, which is none of ours.
const metadataTopic = "__cluster_metadata"

func handleDescribeQuorum(s *Server, _ context.Context, r *request, req *kmsg.DescribeQuorumRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeQuorumResponse)
	if err := s.refused(r, kmsg.ACLOperationDescribe, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for _, rt := range req.Topics {
		st := kmsg.DescribeQuorumResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			sp := kmsg.DescribeQuorumResponseTopicPartition{Partition: rp.Partition}
			if rt.Topic == metadataTopic && rp.Partition == 0 {
				voter := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
				voter.ReplicaID = NodeID
				sp.LeaderID, sp.LeaderEpoch = NodeID, s.Meta.Epoch()
				sp.CurrentVoters = []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{voter}
			} else {
				sp.LeaderID = -1
				sp.ErrorCode, sp.ErrorMessage = code(kerr.UnknownTopicOrPartition), message(kerr.UnknownTopicOrPartition)
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	resp.Nodes = []kmsg.DescribeQuorumResponseNode{{NodeID: NodeID}}
	return resp
}
